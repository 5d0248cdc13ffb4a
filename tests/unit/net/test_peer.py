import pytest

from harmoni.net.peer import observe, plain_address


@pytest.mark.parametrize(
    ("given", "plain"),
    [("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("2001:DB8::7", "2001:db8::7")],
)
def test_ipv4_is_plain_even_if_it_came_through_ipv6(given, plain):
    assert plain_address(given) == plain


def test_a_plain_connection_shows_addresses_and_no_certificate(tcp_pair):
    ours, theirs = tcp_pair
    facts = observe(ours, *ours.getpeername()[:2])
    assert (facts.address, facts.port) == theirs.getsockname()
    assert facts.local_port == ours.getsockname()[1]
    assert facts.certificate is None
