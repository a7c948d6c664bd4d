"""The dashboards, in the order in which an incident is looked into."""

from __future__ import annotations

from tools.dashboards.board import Board
from tools.dashboards.boards import brokers, canary, groups, operators, overview, quorum, topics

BOARDS: tuple[Board, ...] = (
    overview.BOARD,
    brokers.BOARD,
    topics.BOARD,
    groups.BOARD,
    quorum.BOARD,
    operators.BOARD,
    canary.BOARD,
)
