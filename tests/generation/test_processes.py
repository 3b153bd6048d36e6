"""Workers that die, ranks that do not agree or do not meet, and the command line under torchrun."""

import os
import re
import runpy
import signal
import sys
import time
import warnings

import pytest
import torch
from tests.ranks import answer_where_the_other_dies, free_port, receive, run_ranks, start

import multidrift as md
from multidrift.distributed.world import agree, joined

METHOD = md.Euler(4)
SETTINGS = {"count": 60, "batch_size": 3, "shard_size": 3, "lease_seconds": 5.0}


@pytest.fixture
def slow(mixture, ddpm):
    """A model whose calls take a few milliseconds, so that a worker can be killed in the middle."""
    exact = mixture.denoiser(ddpm)

    def net(x, t):
        time.sleep(0.004)
        return exact.net(x, t)

    return md.Denoiser(net, ddpm, "sample", name="slow", shape=(2,))


def shards_there(out, number):
    """Wait until so many shards lie in the folder."""
    limit = time.monotonic() + 30
    while len(list(out.glob("shards/*"))) < number:
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize(("victims", "there"), [((0,), 1), ((1,), 12), ((0, 1), 5)], ids=["leader", "other", "all"])
def test_killed_workers_lose_nothing(slow, tmp_path, victims, there):
    out, port = tmp_path / "out", free_port()
    whole = md.sample(slow, METHOD, count=60, batch_size=3).samples
    ranks = [start(rank, 2, port, lambda: md.generate(slow, METHOD, out, **SETTINGS).count) for rank in range(2)]
    shards_there(out, there)
    for rank in victims:
        os.kill(ranks[rank][0].pid, signal.SIGKILL)
        ranks[rank][0].join()  # else its number would stay taken
    for rank, (child, pipe) in enumerate(ranks):
        if rank not in victims:
            assert pipe.poll(30)
            assert receive(pipe) == 60
        child.join(10)
    if len(victims) == 2:
        early = {path.name: path.stat().st_mtime_ns for path in out.glob("shards/*")}
        with pytest.raises(md.MultidriftError, match="is not complete"):
            md.read_samples(out)
        md.generate(slow, METHOD, out, resume=True, **SETTINGS)
        kept = [name for name, made in early.items() if (out / "shards" / name).stat().st_mtime_ns == made]
        assert len(kept) >= len(early) - 2  # each may have lain there without its record
    assert torch.equal(md.read_samples(out), whole)
    assert md.verify_samples(out) == 60
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "shards"]


def test_workers_started_one_by_one_share_a_folder(slow, tmp_path):
    def draw():
        for name in ("RANK", "WORLD_SIZE"):
            os.environ.pop(name)
        return md.generate(slow, METHOD, tmp_path / "out", resume=True, **SETTINGS).count

    assert run_ranks(2, draw) == [60, 60]
    assert torch.equal(md.read_samples(tmp_path / "out"), md.sample(slow, METHOD, count=60, batch_size=3).samples)


def test_ranks_that_were_asked_for_different_things(denoiser, mixture, tmp_path):
    def draw():
        seed = int(os.environ["RANK"])
        return md.generate(denoiser, METHOD, tmp_path / "out", count=4, seed=seed)

    wanted = "MultidriftError: seed: rank 1 has 1, rank 0 has 0; all ranks take the same"
    assert run_ranks(2, draw) == [wanted, wanted]
    assert not (tmp_path / "out").exists()


def test_ranks_with_different_ladders(mixture, ddpm, tmp_path):
    def draw():
        name = "abc"[int(os.environ["RANK"])]
        return md.generate(mixture.denoiser(ddpm, name), METHOD, tmp_path / "out", count=4)

    first, second = run_ranks(2, draw)
    assert first == second
    assert re.fullmatch(r"MultidriftError: ladder: rank 1 has \{'b': '\w+'\}, rank 0 has \{'a': '\w+'\}; .*", first)


def test_ranks_of_different_versions():
    def meet():
        with joined(20.0) as world:
            agree({"version": "0.1.0" if world.rank == 0 else "0.2.0", "ladder": {}})

    wanted = "MultidriftError: version: rank 1 has '0.2.0', rank 0 has '0.1.0'; all ranks take the same"
    assert run_ranks(2, meet) == [wanted, wanted]


def test_all_ranks_hear_of_a_folder_that_will_not_do(denoiser, tmp_path):
    (tmp_path / "thesis.tex").touch()
    answers = run_ranks(2, lambda: md.generate(denoiser, METHOD, tmp_path, count=4))
    assert all("in which lies thesis.tex" in answer for answer in answers)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rendezvous_that_cannot_be_reached_is_one_line(denoiser, tmp_path, monkeypatch, rank):
    settings = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    wanted = rf"^rendezvous: rank {rank} of 2 did not meet the others at 127.0.0.1:\d+ in 1 s \(.*\)$"
    with pytest.raises(md.MultidriftError, match=wanted):
        md.generate(denoiser, METHOD, tmp_path / "out", count=4, timeout=1.0)
    assert not (tmp_path / "out").exists()


def test_a_rank_that_dies_while_all_meet(denoiser, tmp_path):
    def draw():
        with joined(20.0) as world:
            if world.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            agree({"seed": 0})

    answer = answer_where_the_other_dies(draw)
    assert answer.startswith("MultidriftError: ranks: another one is gone (")


def command(*arguments):
    """`python -m multidrift generate …` in this process: its exit status."""
    sys.argv = ["multidrift", "generate", *map(str, arguments)]
    try:
        runpy.run_module("multidrift", run_name="__main__")
    except SystemExit as stopped:
        return stopped.code


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_the_command_on_two_ranks(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    out = tmp_path / "out"
    settings = ("--out", out, "--level", "f1", "--steps", 3, "--count", 8, "--batch-size", 2, "--shard-size", 2)
    f1 = md.Ladder.bundled("digits")["f1"]
    assert run_ranks(2, command, *settings) == [0, 0]
    told = capfd.readouterr().err
    assert len(re.findall(r"8 of 8 images, \d+\.\d s \(\S+ a second\)", told)) == 1
    assert re.search(r"f1 +│ +3", told)
    assert re.search(r"\d+\.\d s of work by all processes; 0 failures; in \S+out\n", told)
    assert torch.equal(md.read_samples(out), md.sample(f1, md.Euler(3), count=8, batch_size=2).samples)
    assert command("--out", out, "--verify") == 0
    assert capfd.readouterr().err == "8 samples are as they were written\n"
    (out / "shards/000000000002.safetensors").unlink()
    assert command("--out", out, "--verify") == 2
    assert "000000000002.safetensors is missing" in capfd.readouterr().err
    assert command("--out", out, "--count", 0) == 2
    assert capfd.readouterr().err.startswith("error: count: got 0")
    assert command("--out", out, "--metrics", "inception") == 2
    assert capfd.readouterr().err.startswith("error: real: got None; --metrics inception takes a folder")
