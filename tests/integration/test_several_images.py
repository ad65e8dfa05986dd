"""Several images in one request: each its own result, cost or problem; limits and metrics count each."""

import asyncio
import base64
import email
import email.policy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pixeltier.service.api.access import new_key
from pixeltier.service.client import AsyncClient, Classification, PixeltierError, Upscaled
from tests.images import opened, png
from tests.integration.fakes import SLOW, fake_app, running

BROKEN = png(20, 20)[:60]
IMAGES = [("a.png", png(9, 5)), ("broken.png", BROKEN), ("c.png", png(12, 7, 2))]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake_app(max_images=8)) as client:
        yield client


def files(*images: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", image) for image in images]


async def samples(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    text = (await client.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_one_bad_image_does_not_fail_the_others(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify?threshold=0.5&top_k=3", files=files(*IMAGES))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    first, broken, last = document["images"]
    assert [one["name"] for one in document["images"]] == ["a.png", "broken.png", "c.png"]
    assert [one["status"] for one in document["images"]] == [200, 422, 200]
    assert broken["problem"]["type"] == "undecodable-image"
    assert "result" not in broken
    for one, (_, image) in ((first, IMAGES[0]), (last, IMAGES[2])):
        alone = (await client.post("/v1/classify?threshold=0.5&top_k=3", content=image)).json()
        assert one["result"]["predictions"] == alone["predictions"]
        assert one["result"]["macs"] == alone["macs"]
    executed = first["result"]["macs"]["executed"] + last["result"]["macs"]["executed"]
    assert document["macs"]["executed"] == executed == int(answer.headers["x-macs-executed"])
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-tier"] == "custom"


async def test_an_image_that_its_header_refuses_may_come_first(client: httpx.AsyncClient) -> None:
    images = files(("notes.png", b"no image"), ("notes.txt", b"text"), IMAGES[0])
    answer = await client.post("/v1/classify?tier=fast", files=images)
    assert [one["status"] for one in answer.json()["images"]] == [422, 415, 200]
    assert answer.json()["images"][1]["problem"]["type"] == "unsupported-media-type"
    assert (answer.headers["x-tier"], answer.headers["x-tier-effective"]) == ("fast", "fast")
    assert answer.headers["x-model-version"] == answer.json()["images"][2]["result"]["model"]["version"]


async def test_a_name_cannot_break_the_headers_of_its_part(client: httpx.AsyncClient) -> None:
    form = b"".join(
        b'--X\r\nContent-Disposition: form-data; name=file; filename="'
        + name
        + b'"\r\n\r\n'
        + png(4, 4)
        + b"\r\n"
        for name in (b"a\tb\x0bc\xc3\xa9.png", b"plain.png")
    )
    answer = await client.post(
        "/v1/classify",
        content=form + b"--X--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=X", "Accept": "multipart/mixed"},
    )
    assert answer.status_code == 200, answer.text
    assert b'filename="a_b_c_.png"' in answer.content


async def test_enlarged_images_come_in_base64(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/super-resolve", files=files(*IMAGES), data={"format": "webp"})
    first, broken, last = answer.json()["images"]
    assert broken["problem"]["status"] == 422
    for one, size in ((first, (36, 20)), (last, (48, 28))):
        image = one["result"]["image"]
        assert (image["media_type"], image["width"], image["height"]) == ("image/webp", *size)
        assert opened(base64.b64decode(image["base64"])).size == size


async def test_mixed_parts_are_what_the_images_alone_would_get(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/super-resolve?threshold=0.3", files=files(*IMAGES), headers={"Accept": "multipart/mixed"}
    )
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message: Any = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    assert [part.get_filename() for part in parts] == [name for name, _ in IMAGES]
    assert [part["X-Status"] for part in parts] == ["200", "422", "200"]
    assert [part.get_content_type() for part in parts] == [
        "image/png",
        "application/problem+json",
        "image/png",
    ]
    alone = await client.post("/v1/super-resolve?threshold=0.3", content=IMAGES[2][1])
    assert parts[2].get_payload(decode=True) == alone.content
    assert parts[2]["X-Macs-Executed"] == alone.headers["x-macs-executed"]


async def test_what_no_client_accepts_is_told_before_anything_is_computed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/super-resolve", files=files(*IMAGES), headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["type"]) == (406, "not-acceptable")
    assert "multipart/mixed" in answer.json()["detail"]
    assert await samples(client, "pixeltier_macs_executed_total") == 0


async def test_more_images_than_the_limit(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify", files=files(*[("x.png", png(4, 4))] * 9))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "form.file")
    assert "9 images and the limit is 8" in answer.json()["detail"]


async def test_a_wrong_tier_fails_the_whole_request(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/classify", files=files(*IMAGES), data={"tier": "turbo"})
    assert (answer.status_code, answer.json()["type"]) == (422, "unknown-tier")


async def test_metrics_count_each_image_and_one_request(client: httpx.AsyncClient) -> None:
    await client.post("/v1/classify?tier=fast", files=files(*IMAGES))
    assert await samples(client, "http_requests_total", route="/v1/classify", status="200") == 1
    counted = {"model": "classify", "tier": "fast"}
    assert await samples(client, "pixeltier_requests_total", outcome="ok", **counted) == 2
    assert await samples(client, "pixeltier_requests_total", outcome="undecodable-image", **counted) == 1
    assert await samples(client, "pixeltier_request_macs_saved_ratio_count", **counted) == 2


async def test_a_key_pays_for_each_image(tmp_path: Path) -> None:
    token, stanza = new_key("team")
    path = tmp_path / "keys.toml"
    path.write_text(f"{stanza}rate = 0.001\nburst = 5\nconcurrency = 4\n")
    async with running(fake_app(api_keys_file=path)) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        image = ("x.png", png(4, 4))
        too_many = await client.post("/v1/classify", files=files(*[image] * 5))
        assert (too_many.status_code, too_many.json()["type"]) == (429, "rate-limited")
        assert (await client.post("/v1/classify", files=files(*[image] * 4))).status_code == 200
        spent = await client.post("/v1/classify", files=files(image, image))
        assert (spent.status_code, spent.json()["type"]) == (429, "rate-limited")


async def test_the_deadline_is_that_of_every_image() -> None:
    async with running(fake_app(max_batch=1)) as client:
        answer = await client.post(
            f"/v1/super-resolve?threshold={SLOW}",
            files=files(*[("x.png", png(4, 4))] * 4),
            headers={"X-Request-Timeout-Ms": "1000"},
        )
        statuses = [one["status"] for one in answer.json()["images"]]
        assert statuses[0] == 200
        assert set(statuses[1:]) & {503, 504}


async def test_a_client_that_goes_away_frees_every_place() -> None:
    async with running(fake_app(max_batch=1)) as client:
        sending = asyncio.ensure_future(
            client.post(f"/v1/super-resolve?threshold={SLOW}", files=files(*[("x.png", png(4, 4))] * 6))
        )
        await asyncio.sleep(0.2)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        again = await client.post("/v1/classify", content=png(4, 4), headers={"X-Request-Timeout-Ms": "1500"})
        assert again.status_code == 200


async def test_a_tensor_of_several_images(client: httpx.AsyncClient) -> None:
    good = [base64.b64encode(image).decode() for name, image in IMAGES if name != "broken.png"]
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": good}
    body = {"inputs": [tensor], "parameters": {"threshold": 0.5, "top_k": 4}}
    answer = await client.post("/v2/models/classify/infer", json=body)
    assert answer.status_code == 200, answer.text
    outputs = {one["name"]: one for one in answer.json()["outputs"]}
    assert outputs["labels"]["shape"] == outputs["probabilities"]["shape"] == [2, 4]
    alone = await client.post("/v1/classify?threshold=0.5&top_k=4", content=IMAGES[2][1])
    labels = [one["label"] for one in alone.json()["predictions"]]
    assert outputs["labels"]["data"][4:] == labels
    sizes = await client.post(
        "/v2/models/super-resolve/infer", json={"inputs": [tensor], "parameters": {"include": "importance"}}
    )
    assert sizes.status_code == 422
    assert "differs in size" in sizes.json()["error"]


async def test_a_tensor_with_a_bad_image_names_it(client: httpx.AsyncClient) -> None:
    data = [base64.b64encode(image).decode() for _, image in IMAGES]
    tensor = {"name": "image", "shape": [3, 1], "datatype": "BYTES", "data": [[one] for one in data]}
    answer = await client.post("/v2/models/classify/infer", json={"inputs": [tensor]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("undecodable-image: image 1:")


async def test_the_client_reads_each_image_as_if_it_had_come_alone(tmp_path: Path) -> None:
    paths = []
    for name, image in IMAGES:
        paths.append(tmp_path / name)
        paths[-1].write_bytes(image)
    app = fake_app()
    async with (
        running(app),
        AsyncClient("http://test", transport=httpx.ASGITransport(app)) as pixeltier,
    ):
        first, broken, last = await pixeltier.classify_many(paths, threshold=0.5, top_k=2)
        assert isinstance(first, Classification)
        assert isinstance(broken, PixeltierError)
        assert isinstance(last, Classification)
        assert (broken.status, broken.type) == (422, "undecodable-image")
        alone = await pixeltier.classify(paths[2], threshold=0.5, top_k=2)
        assert last.predictions == alone.predictions
        assert last.cost.macs_executed == alone.cost.macs_executed
        enlarged = await pixeltier.upscale_many([paths[0], paths[2]], format="png")
        assert [opened(one.body).size for one in enlarged if isinstance(one, Upscaled)] == [
            (36, 20),
            (48, 28),
        ]
        assert await pixeltier.classify_many([]) == []
        (only,) = await pixeltier.classify_many([paths[1]])
        assert isinstance(only, PixeltierError)
        with pytest.raises(PixeltierError, match="turbo"):
            await pixeltier.classify_many(paths, tier="turbo")
