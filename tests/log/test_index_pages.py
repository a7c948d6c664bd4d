"""The part of an index that was searched last is kept: for few indexes, and never longer than it is right."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_broker.log import index_file
from broadsheet_broker.log.index_file import MOST_PAGES, OFFSET_ENTRY, IndexFile
from broadsheet_broker.seams import LocalFiles


class CountingFiles(LocalFiles):
    """Counts how often a file is opened."""

    opened = 0

    def open(self, path: str, **how: Any) -> Any:
        self.opened += 1
        return super().open(path, **how)


def index_of(files: LocalFiles, path: Path, entries: int, step: int = 3) -> IndexFile:
    """An index with the entries (0, 0), (3, 30), (6, 60) ... in its file."""
    index = IndexFile(str(path), OFFSET_ENTRY)
    for number in range(entries):
        index.append(number * step, number * step * 10)
    index.flush(files)
    return index


def test_a_reader_that_goes_forward_opens_an_index_rarely(tmp_path: Path) -> None:
    files = CountingFiles()
    index = index_of(files, tmp_path / "0.index", 100_000)
    files.opened = 0
    for position in range(0, 3_000_000, 640):
        assert index.floor(files, 1, position) == (position // 30 * 3, position // 30 * 30)
    assert files.opened <= 80


def test_pages_are_kept_of_few_indexes(tmp_path: Path) -> None:
    files = LocalFiles()
    indexes = [index_of(files, tmp_path / f"{number}.index", 2_000) for number in range(MOST_PAGES + 50)]
    for _ in range(2):
        for index in indexes:
            assert index.floor(files, 0, 1000) == (999, 9990)
            assert len(index_file._kept) <= MOST_PAGES
    assert sum(index._page is not None for index in indexes) <= MOST_PAGES


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_search_finds_what_a_search_of_all_entries_finds(tmp_path_factory: Any, data: st.DataObject) -> None:
    files = LocalFiles()
    index = IndexFile(str(tmp_path_factory.mktemp("index") / "0.index"), OFFSET_ENTRY)
    entries: list[tuple[int, int]] = []
    for _ in range(data.draw(st.integers(1, 6))):
        match data.draw(st.sampled_from(["append", "append", "truncate", "reload"])):
            case "append":
                for _ in range(data.draw(st.sampled_from([1, 100, 3000]))):
                    last = entries[-1] if entries else (0, 0)
                    entries.append((last[0] + 2, last[1] + 20))
                    index.append(*entries[-1])
                if data.draw(st.booleans()):
                    index.flush(files)
            case "truncate":
                count = data.draw(st.integers(0, len(entries)))
                index.truncate(files, count)
                del entries[count:]
            case "reload":
                index.flush(files)
                index.load(files)
        for value in data.draw(st.lists(st.integers(-1, max(1, 20 * len(entries) + 5)), max_size=30)):
            column = data.draw(st.integers(0, 1))
            count = bisect_right([entry[column] for entry in entries], value)
            assert index.count_at_most(files, column, value) == count
            assert index.floor(files, column, value) == (entries[count - 1] if count else None)
