"""Takes over what changes outside the API: an edited tier file, and versions of a shared state directory."""

import asyncio
import logging
from pathlib import Path

from pixeltier.service.tiers import schema
from pixeltier.service.tiers.schema import TierTableError
from pixeltier.service.tiers.store import Change, ConflictError, NotStoredError, TierStore, digest

log = logging.getLogger("pixeltier.tiers")


class Watcher:
    """Looks at the file every so often, and at once when told to (SIGHUP).

    An edited file is taken over once two looks in a row found the same text, so that a file caught half written is not.
    """

    def __init__(self, store: TierStore, tiers_file: Path | None, every_s: float) -> None:
        self._store = store
        self._file = tiers_file
        self._every_s = every_s
        self._looked: str | None = None
        self._refused: str | None = None

    async def run(self) -> None:
        """Look for ever."""
        while self._every_s > 0:
            await asyncio.sleep(self._every_s)
            try:
                await self._store.follow()
                await self.look()
            except Exception:  # whatever it is, it must not end the watch
                log.exception("looking for changes of the tier table failed")

    async def look(self) -> None:
        """Look once."""
        if self._file is None:
            return
        try:
            text = await asyncio.to_thread(schema.read, self._file)
        except TierTableError as error:
            self._refuse(str(error), mark=str(error))
            return
        mark = digest(text)
        settled, self._looked = mark == self._looked, mark
        if settled and mark not in {self._store.source, self._refused}:
            await self._take(text)

    async def reload(self) -> None:
        """Take the file over now, even where only the table in force was changed since (SIGHUP)."""
        if self._file is None:
            return
        try:
            text = await asyncio.to_thread(schema.read, self._file)
        except TierTableError as error:
            self._refused = None
            self._refuse(str(error), mark=str(error))
            return
        await self._take(text)

    async def _take(self, text: str) -> None:
        file = self._file
        if file is None:
            return
        why = Change(kind="file", reason=f"the tier file {file.name} changed", source=digest(text))
        try:
            await self._store.change(lambda _: schema.parse(text, source=str(file)), why)
            self._refused = None
        except TierTableError as error:
            log.error("the tier file is broken; the table in force goes on", extra={"why": str(error)})
            self._refused = digest(text)
        except (ConflictError, NotStoredError) as error:
            log.error("the tier file could not be taken over", extra={"why": str(error)})

    def _refuse(self, why: str, *, mark: str) -> None:
        """Say once that the file cannot be read."""
        if mark != self._refused:
            self._refused = mark
            log.error("the tier file cannot be read; the table in force goes on", extra={"why": why})
            self._store.refuse()
