"""The driver's calls a second, against a bare grpc.aio loop that counts calls and keeps nothing.

Budget: 0.9 of the loop. Both are clients of the same three greeters, in processes of their own,
with as many calls in flight on one channel, and read who answered from the same metadata. They
run in turn.

    python benchmarks/driver_throughput.py [PAIRS [CALLS]]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import grpc

from pytest_grpclb._pb import driver_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_FLIGHT = 8
WARM_UP = 200
METHOD = "/helloworld.Greeter/SayHello"
BACKEND_KEY = "grpclb-backend"
ROUND_ROBIN = '{"loadBalancingConfig":[{"round_robin":{}}]}'
BUDGET = 0.9


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[str]:
    """Run one of the package's programs and give its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_grpclb.programs", *arguments, "--port=0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GRPCLB_LISTEN_IP": "127.0.0.1"},
    )
    assert process.stderr is not None
    try:
        yield next(line for line in process.stderr if "listening on" in line).split()[-1]
    finally:
        process.kill()
        process.communicate()


async def bare_loop(target: str, calls: int) -> float:
    """Return the calls a second of as little code as can send and recognise them."""
    options = [("grpc.service_config", ROUND_ROBIN), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        say_hello = channel.unary_unary(METHOD)
        answered = 0

        async def work(numbers: Iterator[int]) -> None:
            nonlocal answered
            for _ in numbers:
                call = say_hello(b"", timeout=10.0, wait_for_ready=True)
                await call
                answered += BACKEND_KEY in await call.initial_metadata()

        async def send(number: int) -> None:
            numbers = iter(range(number))
            await asyncio.gather(*(work(numbers) for _ in range(IN_FLIGHT)))

        await send(WARM_UP)
        began_s = time.perf_counter()
        await send(calls)
        took_s = time.perf_counter() - began_s
    assert answered == WARM_UP + calls
    return calls / took_s


def by_driver(driver: str, target: str, calls: int) -> float:
    """Return the calls a second of one run of the driver."""
    plan = driver_pb2.Plan(
        target=target,
        service_config=ROUND_ROBIN,
        channels=1,
        call=driver_pb2.Call(
            method=METHOD,
            timeout_s=10.0,
            backend_key=BACKEND_KEY,
            wait_for_ready=True,
            # As the plugin asks where clients dial pods: the peer first.
            attributions=[
                driver_pb2.Attribution(peer=driver_pb2.Peer(addresses=["127.0.0.1"])),
                driver_pb2.Attribution(header=BACKEND_KEY),
            ],
        ),
        closed=driver_pb2.Closed(concurrency=IN_FLIGHT),
        calls=calls,
        warm_up=driver_pb2.WarmUp(backends=3, timeout_s=10.0),
    )
    sent_s: list[float] = []
    done_s: list[float] = []
    with grpc.insecure_channel(driver, options=[("grpc.enable_http_proxy", 0)]) as channel:
        run = channel.stream_stream(
            "/grpclb.driver.v1.Driver/Run",
            request_serializer=driver_pb2.RunRequest.SerializeToString,
            response_deserializer=driver_pb2.RunResponse.FromString,
        )
        for response in run(iter([driver_pb2.RunRequest(plan=plan)]), wait_for_ready=True):
            sent_s += response.columns.sent_s
            done_s += response.columns.done_s
    assert len(done_s) == calls
    return calls / (max(done_s) - min(sent_s))


def by_loop(target: str, calls: int) -> float:
    """Return the calls a second of one bare loop in a process of its own."""
    command = [sys.executable, __file__, "--loop", target, str(calls)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(pairs: int = 9, calls: int = 6_000) -> None:
    """Run both in turn and print the ratio of each pair's rates."""
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(program("greeter")) for _ in range(3)]
        driver = stack.enter_context(program("driver"))
        target = "ipv4:" + ",".join(backends)
        rates = [(by_driver(driver, target, calls), by_loop(target, calls)) for _ in range(pairs)]
    ratios = sorted(driver_rate / loop_rate for driver_rate, loop_rate in rates)
    print(f"driver: median {statistics.median(rate for rate, _ in rates):.0f} calls/s")
    print(f"bare loop: median {statistics.median(rate for _, rate in rates):.0f} calls/s")
    print(
        f"ratio: median {statistics.median(ratios):.3f}, "
        f"from {ratios[0]:.3f} to {ratios[-1]:.3f}; budget {BUDGET:g}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:
        print(asyncio.run(bare_loop(sys.argv[2], int(sys.argv[3]))))
    else:
        main(*map(int, sys.argv[1:]))
