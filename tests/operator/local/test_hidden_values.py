"""What `broadsheet up` prints of a change never has a secret in it."""

from __future__ import annotations

import pytest

from broadsheet_operator.local.broker import changed_properties


@pytest.mark.parametrize(
    "key",
    [
        "listener.name.plain.ssl.keystore.key",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.client.credentials.client.secret",
        "SSL.Key.Password",
    ],
)
def test_a_property_that_kubernetes_hides_is_hidden_here_too(key: str) -> None:
    """There were two lists of such names, and this one lacked some of the other's."""
    words = changed_properties({key: "quiet", "num.io.threads": "4"}, {key: "still", "num.io.threads": "5"})
    assert words == ", ".join(sorted([f"{key} (hidden) -> (hidden)", "num.io.threads 4 -> 5"]))
