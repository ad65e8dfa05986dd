"""The store at the start of a process: which table is in force after what happened while it was down."""

import logging
from pathlib import Path

from pixeltier.service import catalogue
from pixeltier.service.tasks import Task
from pixeltier.service.tiers import schema
from pixeltier.service.tiers.goals import resolve
from pixeltier.service.tiers.history import StateDirectory, VersionLog
from pixeltier.service.tiers.schema import TierTable, TierTableError
from pixeltier.service.tiers.store import Change, Models, TierStore, digest, identities, thresholds

log = logging.getLogger("pixeltier.tiers")


def open_store(tiers_file: Path | None, versions: VersionLog | Path | None, models: Models) -> TierStore:
    """Open the store: whoever changed the table last wins.

    `versions` is a state directory, or what keeps the versions instead. With either the last version goes on, except
    where the tier file was changed since it was last taken over; a packaged table of a newer release is taken over
    only where nobody has ever changed the old one. Goals are resolved with the model cards of today. A broken tier
    file is fatal only where no good version is stored.

    Raises:
        TierTableError, OSError: there is nothing to serve, and why.
    """
    directory = StateDirectory(versions) if isinstance(versions, Path) else versions
    named = "the packaged tier table" if tiers_file is None else f"the tier file {tiers_file.name}"
    try:
        text = schema.read(tiers_file)
        table = schema.parse(text, source=named if tiers_file is None else str(tiers_file))
    except TierTableError as error:
        if directory is None or not directory.read():
            raise
        log.error("the tier file is broken; the last good version goes on", extra={"why": str(error)})
        store = TierStore(None, models, directory)
    else:
        source = None if tiers_file is None else digest(text)
        store = TierStore(table, models, directory, why=Change(kind="start", reason=named, source=source))
        if store.resumed:
            _take_over(store, table, Change(kind="file", reason=f"{named} changed", source=source))
    _resolve_anew(store)
    return store


def packaged_thresholds(task: Task) -> dict[str, float]:
    """The packaged tiers of one task with the thresholds that the packaged model cards give them."""
    models = catalogue.load().models
    resolution = resolve(schema.load(), {task: model.expectations for task, model in models.items()})
    return {tier: of_task[task].threshold for tier, of_task in resolution.items()}


def _take_over(store: TierStore, table: TierTable, why: Change) -> None:
    """Put the file's table in force where it was changed while nobody was there to see it."""
    if why.source is None:
        untouched = all(record.kind in {"start", "model"} for record in store.history())
        if not untouched:
            return
    elif why.source == store.source:
        return
    if table == store.snapshot.table:
        if why.source is not None:
            store.remember_source(why.source)
        return
    try:
        store.replace(table, why)
    except (TierTableError, OSError) as error:
        log.error(
            "the tier file cannot be taken over; the last good version goes on", extra={"why": str(error)}
        )


def _resolve_anew(store: TierStore) -> None:
    """Make it a version of its own where other model cards give the same rules other thresholds."""
    now = store.snapshot
    found = identities(store.models)
    if thresholds(now.resolution) == now.record.thresholds:
        return
    reason = f"resolved with {', '.join(found.values())}; before with {', '.join(now.record.models.values())}"
    try:
        store.replace(now.table, Change(kind="model", reason=reason), resolution=now.resolution)
    except OSError as error:
        # The disk is full, but the thresholds of the new card are in force all the same.
        log.error("the thresholds of the new model cards could not be stored", extra={"why": str(error)})
