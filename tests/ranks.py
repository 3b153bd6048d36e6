"""A function on several processes of one group, as torchrun would start them."""

import multiprocessing
import os
import pickle
import socket

_FORK = multiprocessing.get_context("fork")  # the children need not import torch again


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def set_environment(rank, size, port):
    """What torchrun tells a process."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})


def start(rank, size, port, function, *args):
    """One rank, started; what `function` returns, or the text of its error, comes through the pipe."""
    here, there = _FORK.Pipe(duplex=False)

    def main():
        set_environment(rank, size, port)
        try:
            there.send_bytes(pickle.dumps(function(*args)))  # tensors by value: the child ends before they are read
        except Exception as error:  # noqa: BLE001 (any error is the test's to see)
            there.send_bytes(pickle.dumps(f"{type(error).__name__}: {error}"))

    child = _FORK.Process(target=main)
    child.start()
    there.close()
    return child, here


def receive(pipe):
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 (from our own child)


def run_ranks(size, function, *args, patience=60.0):
    """What `function(*args)` returns on each of so many ranks, in at most so many seconds."""
    port = free_port()
    started = [start(rank, size, port, function, *args) for rank in range(size)]
    results = []
    for child, pipe in started:
        results.append(receive(pipe) if pipe.poll(patience) else "no answer in time")
        child.join(5)
        if child.is_alive():
            child.kill()
    return results


def answer_where_the_other_dies(function, patience=30):
    """What the first of two ranks returns; the second ends without a word."""
    port = free_port()
    (first, pipe), (second, _) = (start(rank, 2, port, function) for rank in range(2))
    answer = receive(pipe) if pipe.poll(patience) else "no answer in time"
    for child in (first, second):
        child.join(10)
    return answer
