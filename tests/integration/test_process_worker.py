"""Large images through the pipe of a real process, both ways, and answers in the order of the jobs."""

import asyncio
import io

from PIL import Image

from pixeltier.service.pool.process_worker import OFF_LOOP_BYTES, ProcessWorker
from pixeltier.service.work.messages import ClassifyAnswer, ClassifyJob, SuperResolveAnswer, SuperResolveJob
from pixeltier.service.worker.startup import Spec
from tests.integration.fakes import load_fake


def noise(side: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 100).convert("RGB").save(out, "PNG")
    return out.getvalue()


async def test_large_images_cross_whole() -> None:
    worker = ProcessWorker("test", Spec(threads=1, engine=load_fake))
    ready = await worker.start()
    assert ready.pid == worker.pid
    body = noise(800)
    enlarge = SuperResolveJob(
        body=body, threshold=0.5, format="png", quality=90, max_pixels=10**8, max_output_pixels=10**9
    )
    name = ClassifyJob(body=body, threshold=0.5, top_k=3, max_pixels=10**8)
    try:
        futures = [worker.submit((enlarge,)), worker.submit((name, name)), worker.submit((name,))]
        (enlarged,), both, (one,) = await asyncio.gather(*futures)
    finally:
        await worker.stop(10)
    assert isinstance(enlarged, SuperResolveAnswer)
    assert len(enlarged.body) > OFF_LOOP_BYTES
    image = Image.open(io.BytesIO(enlarged.body))
    image.load()
    assert image.size == (3200, 3200)
    assert [type(answer) for answer in (*both, one)] == [ClassifyAnswer] * 3
    assert worker.pid is None
