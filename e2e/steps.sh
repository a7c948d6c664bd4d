# Steps of a long run, for `. e2e/steps.sh`: how long each took stands in the summary of the last one's pytest.
export BROADSHEET_STEPS=${BROADSHEET_STEPS:-$PWD/build/steps.$$}
mkdir -p "$(dirname "$BROADSHEET_STEPS")"

step() { # NAME COMMAND...: run it, and note its time and how it ended
    local name=$1 began=$SECONDS status=0
    shift
    echo "== $name"
    "$@" || status=$?
    printf '%s\t%s\t%s\n' "$((SECONDS - began))" "$status" "$name" >>"$BROADSHEET_STEPS"
    return "$status"
}

last_step() { # NAME COMMAND...: a step whose pytest prints the table of all of them
    BROADSHEET_LAST_STEP=$1 step "$@"
}

end_of_steps() { # fails when any step has failed
    ! grep -qv $'^[0-9]*\t0\t' "$BROADSHEET_STEPS"
}
