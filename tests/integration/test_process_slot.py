"""Large images through the pipe of a real process, both ways, and answers in the order of the jobs."""

import asyncio
import io

from PIL import Image

from service.pool.process_slot import OFF_LOOP_BYTES, ProcessSlot
from service.worker.messages import ClassifyAnswer, ClassifyJob, SuperResolveAnswer, SuperResolveJob
from service.worker.slot import Spec
from tests.integration.fakes import load_fake


def noise(side: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 100).convert("RGB").save(out, "PNG")
    return out.getvalue()


async def test_large_images_cross_whole() -> None:
    slot = ProcessSlot("test", Spec(threads=1, engine=load_fake))
    ready = await slot.start()
    assert ready.pid == slot.pid
    body = noise(800)
    enlarge = SuperResolveJob(body, 0.5, "png", 90, False, 10**8, 10**9)
    name = ClassifyJob(body, 0.5, 3, False, 10**8)
    try:
        futures = [slot.submit((enlarge,)), slot.submit((name, name)), slot.submit((name,))]
        (enlarged,), both, (one,) = await asyncio.gather(*futures)
    finally:
        await slot.stop(10)
    assert isinstance(enlarged, SuperResolveAnswer)
    assert len(enlarged.body) > OFF_LOOP_BYTES
    image = Image.open(io.BytesIO(enlarged.body))
    image.load()
    assert image.size == (3200, 3200)
    assert [type(answer) for answer in (*both, one)] == [ClassifyAnswer] * 3
    assert slot.pid is None
