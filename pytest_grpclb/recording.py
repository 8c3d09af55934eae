"""Channels of this process for a user's own stubs; their unary calls are recorded as traffic."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, finalize, ref

import grpc

from pytest_grpclb._pb import driver_pb2 as pb
from pytest_grpclb.driver.plan import Plan
from pytest_grpclb.driver.told import ClientView, Told
from pytest_grpclb.errors import ChannelError
from pytest_grpclb.pickers import Presence
from pytest_grpclb.programs import channels
from pytest_grpclb.programs.attribution import Attributor, last_of, ways_of
from pytest_grpclb.programs.columns import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_grpclb.freezing import Freezer
    from pytest_grpclb.model import Backend, CallTemplate, Traffic

__all__ = ["ChannelMaker"]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_PICK_LOOK_S = 0.001
"""Between two looks at a channel that has no connection yet, for what its call will take."""
_CONNECT_S = 5.0
"""As long as the driver's warm-up may take."""
_PICKED = "the subchannel that gRPC picked (channelz)"


@dataclass(slots=True, kw_only=True)
class Recording:
    """The calls of one channel; several threads may make them."""

    plan: pb.Plan
    alpha: float
    allowed: frozenset[int]
    started_at_s: float = field(default_factory=time.monotonic)
    recorder: Recorder = field(default_factory=Recorder)
    changed: threading.Condition = field(default_factory=threading.Condition)
    numbers: Any = field(default_factory=itertools.count)
    pending: set[Any] = field(default_factory=set)
    attributed: tuple[str, tuple[str, ...]] = ("", ())
    presence: Presence = field(default_factory=Presence)

    def record(
        self, sequence: int, sent_s: float, code: Any, details: str, backend: str | None
    ) -> None:
        """Take down a call that has ended."""
        with self.changed:
            self.recorder.record(
                sequence,
                0,
                sent_s=sent_s,
                done_s=time.monotonic(),
                backend=backend,
                status=code.value[0],
                details=details,
            )

    def told(self, identify: Callable[[str], str], sofar: list[pb.Columns]) -> Told:
        """Return the calls so far, as those of a driver.

        :param sofar: what earlier questions were answered; added to
        """
        with self.changed:
            # A call that has ended for its caller may not have been taken down yet.
            self.changed.wait_for(lambda: not any(each.done() for each in self.pending), 1.0)
            sofar += self.recorder.take()
        told = Told(identify=identify, allowed=self.allowed)
        for columns in sofar:
            told.take(pb.RunResponse(columns=columns))
        return told


class ChannelMaker:
    """Makes channels to the service, configured as the strategy's clients are."""

    def __init__(
        self,
        freezer: Freezer,
        *,
        dns_address: str,
        beside: str,
        cluster: str,
        backends: Callable[[], tuple[Backend, ...]],
    ) -> None:
        """Make channels for the test that *freezer* is of.

        :param dns_address: the cluster's DNS, "ip:port", if it answers this process; else empty
        :param beside: address of the client's pod, which "localhost" stands for
        :param cluster: its name, for people
        :param backends: returns the pods that are ready
        """
        self._freezer, self._dns, self._beside = freezer, dns_address, beside
        self._cluster, self._backends = cluster, backends
        self._made: WeakKeyDictionary[Any, tuple[Recording, list[pb.Columns]]] = WeakKeyDictionary()

    def channel(self, call: CallTemplate, *, alpha: float) -> grpc.Channel:
        """Return a channel for blocking stubs.

        :raises ChannelError: if the strategy's target cannot be reached from this process
        """
        recording = self._recording(call, alpha=alpha)
        with _leaving_unopened(recording):
            opened = channels.open_blocking(recording.plan)
        opened.channel.subscribe(_ignore, try_to_connect=True)
        _wait_connected(opened)
        opened.channel.unsubscribe(_ignore)
        recording.started_at_s = time.monotonic()
        made = _RecordedChannel(opened, recording)
        self._made[made] = (recording, [])
        finalize(made, recording.presence.leave)
        return made

    def aio_channel(self, call: CallTemplate, *, alpha: float) -> Any:
        """Return a channel for asyncio stubs; as `channel`."""
        recording = self._recording(call, alpha=alpha)
        with _leaving_unopened(recording):
            opened = channels.open_asyncio(recording.plan, interceptors=[_AioRecorder(recording)])
        opened.channel.get_state(try_to_connect=True)
        _wait_connected(opened)
        recording.started_at_s = time.monotonic()
        self._made[opened.channel] = (recording, [])
        alive = ref(opened.channel)
        recording.presence.is_over = lambda: _is_shut(alive())
        return opened.channel

    def recorded(self, channel: Any) -> Traffic:
        """Return the unary calls of a channel so far, those that have ended, as traffic.

        :raises ValueError: if the channel is none of this object's
        """
        try:
            recording, sofar = self._made[channel]
        except (KeyError, TypeError):
            raise ValueError(
                f"channel: {channel!r} is none that grpclb.channel() or grpclb.aio_channel() made"
            ) from None
        told = recording.told(self._freezer.watch.uid_of, sofar)
        way, tried = recording.attributed
        return self._freezer.traffic(
            told.calls(),
            ClientView(),
            started_at_s=recording.started_at_s,
            ended_at_s=time.monotonic(),
            alpha=recording.alpha,
            channels=1,
            alone=recording.presence.alone,
            failures=told.failures(),
            attribution=way,
            attribution_tried=tried,
        )

    def _recording(self, call: CallTemplate, *, alpha: float) -> Recording:
        target = self._freezer.target
        address = target.address
        if not target.through_ingress:
            if not self._dns:
                raise ChannelError(self._freezer.strategy.name, cluster=self._cluster)
            address = channels.led(address, dns=self._dns, own=self._beside)
        pods = tuple(itertools.chain.from_iterable(each.addresses for each in self._backends()))
        plan = Plan(target=replace(target, address=address), call=call, pods=pods)
        return Recording(
            plan=plan.message().plan,
            alpha=alpha,
            allowed=frozenset(call.allowed_status),
            presence=self._freezer.company.enter(),
        )


@contextmanager
def _leaving_unopened(recording: Recording) -> Iterator[None]:
    """Say that no calls will be sent where the channel cannot be opened."""
    try:
        yield
    except BaseException:
        recording.presence.leave()
        raise


def _is_shut(channel: Any) -> bool:
    """Tell whether an asyncio channel has been closed, or forgotten."""
    return channel is None or channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


def _wait_connected(opened: channels.Opened) -> None:
    """Wait until a channel is connected to all that it will call: else the quickest gets more.

    Raises nothing if it is not in time: its calls will say why.
    """
    waiting, deadline_s = threading.Event(), time.monotonic() + _CONNECT_S
    while not channels.connected(opened) and time.monotonic() < deadline_s:
        waiting.wait(_PICK_LOOK_S)


def _ignore(_state: Any) -> None:
    """Take no notice: a channel connects while somebody listens."""


class _RecordedChannel(grpc.Channel):  # type: ignore[misc]
    """A blocking channel whose unary calls are recorded; streams pass as they are."""

    def __init__(self, opened: channels.Opened, recording: Recording) -> None:
        self._channel, self._presence = opened.channel, recording.presence
        self._calls = _BlockingCalls(opened, recording)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def unary_unary(self, *arguments: Any, **more: Any) -> Any:
        return _RecordedMethod(self._channel.unary_unary(*arguments, **more), self._calls)

    def unary_stream(self, *arguments: Any, **more: Any) -> Any:
        return self._channel.unary_stream(*arguments, **more)

    def stream_unary(self, *arguments: Any, **more: Any) -> Any:
        return self._channel.stream_unary(*arguments, **more)

    def stream_stream(self, *arguments: Any, **more: Any) -> Any:
        return self._channel.stream_stream(*arguments, **more)

    def close(self) -> None:
        self._channel.close()
        self._presence.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RecordedMethod(grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]
    def __init__(self, method: Any, calls: _BlockingCalls) -> None:
        self._method, self._calls = method, calls

    def __call__(self, request: Any, *arguments: Any, **more: Any) -> Any:
        return self.with_call(request, *arguments, **more)[0]

    def with_call(self, request: Any, *arguments: Any, **more: Any) -> Any:
        future = self.future(request, *arguments, **more)
        return future.result(), future

    def future(self, request: Any, *arguments: Any, **more: Any) -> Any:
        return self._calls.start(lambda: self._method.future(request, *arguments, **more))


class _BlockingCalls:
    """Starts calls one after the other, so that it shows which subchannel each of them takes.

    gRPC for Python does not tell the peer of a blocking call once it has ended; channelz counts the
    calls that each subchannel has begun, and the count rises before the call's start returns. One
    that gRPC itself sends again elsewhere (transparent retry) is begun twice, and succeeds once.
    """

    def __init__(self, opened: channels.Opened, recording: Recording) -> None:
        self._id, self._recording = opened.channelz_id, recording
        self._starting = threading.Lock()
        call = recording.plan.call
        self._peer = next(
            (frozenset(each.peer.addresses) for each in call.attributions if each.HasField("peer")),
            frozenset(),
        )

    def start(self, send: Callable[[], Any]) -> Any:
        recording = self._recording
        with self._starting:
            sequence, sent_s = next(recording.numbers), time.monotonic()
            before = channels.accounts(self._id)
            future = send()
            picked = self._picked(before, future)
        with recording.changed:
            recording.pending.add(future)

        def ended(future: Any) -> None:
            code = future.code()
            backend = self._named(future, picked, answered=code is grpc.StatusCode.OK)
            recording.record(sequence, sent_s, code, future.details() or "", backend)
            with recording.changed:
                recording.pending.discard(future)
                recording.changed.notify_all()

        future.add_done_callback(ended)
        return future

    def _picked(self, before: Mapping[int, channels.Account], future: Any) -> str | None:
        if self._id is None or not self._peer:
            return None
        waiting = threading.Event()
        while True:
            ended = future.done()
            now = channels.accounts(self._id)
            began = _risen(before, now, "started")
            if len(began) == 1:
                return now[began[0]].address
            if ended:
                answered = _risen(before, now, "succeeded")
                if not began:
                    # It has gone with its subchannel, which a list of other addresses has ended.
                    answered = [number for number in before if number not in now]
                return {**before, **now}[answered[0]].address if len(answered) == 1 else None
            waiting.wait(_PICK_LOOK_S)

    def _named(self, future: Any, picked: str | None, *, answered: bool) -> str | None:
        tried: dict[str, str] = {}
        metadata = {
            **{entry[0]: entry[1] for entry in future.trailing_metadata() or ()},
            **{entry[0]: entry[1] for entry in future.initial_metadata() or ()},
        }
        for way in self._recording.plan.call.attributions:
            kind = way.WhichOneof("way")
            if kind == "header":
                text, named = f"response header {way.header!r}", metadata.get(way.header)
                why = "absent"
            elif kind == "peer":
                text, named, why = _PICKED, picked, "unknown"
                if picked is not None and picked.rpartition(":")[0].strip("[]") not in self._peer:
                    named, why = None, f"{picked} is no pod's address"
            else:
                text, why = f"reply field {way.field.name!r}", "empty"
                named = _read(future.result(), way.field.name) if answered else None
            if named is not None:
                self._recording.attributed = (text, ())
                return last_of(named) if isinstance(named, str) else named.hex()
            tried[text] = why
        if answered and not self._recording.attributed[0]:
            told = tuple(f"{text}: {why}" for text, why in tried.items())
            self._recording.attributed = ("", told)
        return None


def _risen(
    before: Mapping[int, channels.Account], now: Mapping[int, channels.Account], count: str
) -> list[int]:
    """Return the subchannels whose *count* has risen; new ones began with none."""
    return [
        number
        for number, account in now.items()
        if getattr(account, count) > (getattr(before[number], count) if number in before else 0)
    ]


def _read(reply: Any, path: str) -> str | None:
    for name in path.split("."):
        reply = getattr(reply, name, None)
    return str(reply) if reply else None


class _AioRecorder(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        # A field of the reply is read as the driver does: from bytes, which interceptors lack.
        self._attributor = Attributor(ways_of(recording.plan.call))

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        recording = self._recording
        sequence, sent_s = next(recording.numbers), time.monotonic()
        call = await continuation(details, request)
        code = await call.code()
        answered = code is grpc.StatusCode.OK
        backend = await self._attributor.name(_Encoded(call), answered=answered)
        told = "" if answered else await call.details() or ""
        recording.record(sequence, sent_s, code, told, backend)
        recording.attributed = (
            self._attributor.way,
            () if self._attributor.way else self._attributor.tried,
        )
        return call


class _Encoded:
    """A call whose reply is bytes again."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Any:
        reply = yield from self._call.__await__()
        encode = getattr(reply, "SerializeToString", None)
        return reply if encode is None else encode()
