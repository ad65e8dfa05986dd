"""Frames between front process and worker: whatever is packed arrives, in order, and a hang-up is noticed."""

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixeltier.service.work.messages import ClassifyJob, Rejected
from pixeltier.service.worker import frames

SIZES = st.sampled_from([0, 1, 1000, frames.BESIDE_BYTES - 1, frames.BESIDE_BYTES, 3 * frames.BESIDE_BYTES])


def job(size: int, mark: int = 0) -> ClassifyJob:
    return ClassifyJob(body=bytes([mark % 256]) * size, threshold=0.5, top_k=mark, max_pixels=10)


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(SIZES, max_size=4), min_size=1, max_size=3))
def test_what_is_sent_is_received(batches: list[list[int]]) -> None:
    sent = [
        [job(size, n) for n, size in enumerate(sizes)] + [Rejected("undecodable-image", "x")]
        for sizes in batches
    ]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: [frames.send(ours, items) for items in sent])
        sender.start()
        assert [frames.receive(theirs) for _ in sent] == sent
        sender.join()


def test_large_images_are_not_copied_into_the_pickle() -> None:
    large, small = job(2 * frames.BESIDE_BYTES), job(10)
    pickled, body = frames.pack([small, large])
    assert body is large.body
    assert len(pickled) < 1000


@pytest.mark.parametrize("cut", [0, 5, frames.HEAD.size, 40])
def test_a_hang_up_is_noticed(cut: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(bytes(frames.pack([job(100)])[0])[:cut])
        ours.close()
        with pytest.raises(frames.ClosedError):
            frames.receive(theirs)
