"""What is measured and simulated of an update on several ranks."""

import pytest
from threaded import Ranks
from tolerance import assert_close, terms

from minidl.distributed.measure import HEAD, KINDS, describe, measure
from minidl.distributed.simulate import LINKS, Link, main, network, table, update

FAST = Link(bandwidth=1e30, latency=0.0)


@pytest.mark.parametrize("norm", ["bn", "mn"])
@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_the_bytes_that_are_simulated_are_those_that_ranks_send(name, norm):
    found = Ranks(2).run(lambda world: measure(name, norm, 4, 1, world))
    net = network(name, norm)
    for alone, gradients, synchronised in found:
        assert [each.kind for each in (alone, gradients, synchronised)] == list(KINDS)
        assert (alone.messages, alone.bytes) == (0, 0)
        assert gradients.bytes == net.gradient + net.statistics
        assert synchronised.bytes == net.gradient + net.exchanged + 8  # the loss
        assert synchronised.messages - gradients.messages == 2 * sum(stage.forward > 0 for stage in net.stages)
        assert describe((alone, gradients, synchronised)).count("|") == HEAD.splitlines()[0].count("|")


def test_the_shares_of_the_time_are_all_of_it():
    for name in ("lenet", "resnet20"):
        shares = [stage.share for stage in network(name).stages]
        assert_close(sum(shares), 1, terms(2 * len(shares), 1))


def test_an_update_alone_or_over_a_link_without_limits_takes_the_time_of_computing():
    net = network("resnet20", "mn")
    for sync_norm in (False, True):
        for ranks, link in ((1, Link(1e6, 1.0)), (1024, FAST)):
            assert_close(update(net, 0.5, ranks, link, sync_norm), 0.5, terms(8 * len(net.stages), 0.5))


def test_what_travels_while_backward_goes_on_costs_no_time_but_for_the_last_bucket():
    net, link = network("vgg13"), Link(1e9, 0.0)
    whole = link.total(net.gradient, 2)
    hidden = update(net, 100 * whole, 2, link) - 100 * whole
    shown = update(net, 1e-9, 2, link)
    assert 0 < hidden < 0.1 * whole
    assert shown > whole


def test_more_ranks_less_bandwidth_and_more_latency_never_make_an_update_faster():
    net = network("resnet20")
    for sync_norm in (False, True):
        times = [update(net, 0.01, ranks, Link(1e8, 1e-5), sync_norm) for ranks in (1, 2, 4, 16, 64, 1024)]
        assert times == sorted(times)
        assert update(net, 0.01, 8, Link(1e7, 1e-5), sync_norm) > update(net, 0.01, 8, Link(1e8, 1e-5), sync_norm)
        assert update(net, 0.01, 8, Link(1e8, 1e-3), sync_norm) > update(net, 0.01, 8, Link(1e8, 1e-5), sync_norm)


def test_a_long_message_takes_its_bytes_twice_and_a_short_one_its_latencies():
    assert_close(Link(1e9, 0.0).total(1e9, 1024), 2 * 1023 / 1024, terms(4, 2))
    assert_close(Link(1e9, 1e-5).total(8, 1024), 10 * (1e-5 + 8e-9), terms(4, 1e-4))
    assert_close(Link(1e9, 1e-5).each(0, 3), 2e-5, terms(4, 2e-5))


def test_the_command_prints_both_tables(capsys):
    assert main(["lenet", "--speed", "1000"]) == 0
    said = capsys.readouterr().out
    assert said.count("1024 ranks") == 2
    assert table(network("lenet"), 1000, 32, LINKS, False) in said
