"""The example server on loopback, with a real client at fifty requests at a time."""

import asyncio
import importlib.util
import threading
import time
from pathlib import Path

import pytest
import torch
from tests.ranks import free_port

import multidrift as md

pytest.importorskip("fastapi", reason="the extra `serve`")
httpx = pytest.importorskip("httpx", reason="the extra `serve`")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve`")

EXAMPLE = Path(__file__).parents[2] / "examples" / "server.py"
METHODS = {"euler": md.Euler(3), "multistep": md.Multistep(4)}


@pytest.fixture
def address(denoiser):
    spec = importlib.util.spec_from_file_location("server_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    app = example.create_app(md.Sampler(denoiser, METHODS["euler"], max_rows=32), METHODS)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    limit = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < limit
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/samples"
    server.should_exit = True
    thread.join(20)


def test_fifty_requests_at_a_time(address, denoiser):
    asked = [{"seed": n, "count": 1 + n % 4, "method": ("euler", "multistep")[n % 2]} for n in range(100)]

    async def ask_all():
        gate = asyncio.Semaphore(50)
        async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=50), timeout=60) as client:

            async def ask(query):
                async with gate:
                    return await client.get(address, params=query | {"format": "json"})

            return await asyncio.gather(*map(ask, asked))

    answers = asyncio.run(ask_all())
    assert {answer.status_code for answer in answers} == {200}
    for query, answer in zip(asked, answers, strict=True):
        own = md.sample(denoiser, METHODS[query["method"]], seed=query["seed"], count=query["count"]).samples
        assert torch.allclose(torch.tensor(answer.json()), own, atol=1e-4)


def test_wrong_requests_are_told_so(address):
    with httpx.Client(trust_env=False, timeout=30) as client:
        for query, told in (
            ({"seed": 0, "count": 33}, "count: got 33; it takes at most max_rows=32"),
            ({"seed": 0, "method": "magic"}, "method: got 'magic'; it takes euler, multistep"),
            ({"seed": 0, "count": 0}, "greater than or equal to 1"),
        ):
            answer = client.get(address, params=query)
            assert answer.status_code == 422
            assert told in answer.text
