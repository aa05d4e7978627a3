"""Tables of the dock widget: clusters and classes by colour and name. They only report what the user did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, QSortFilterProxyModel, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPixmap
from qtpy.QtWidgets import QHeaderView, QTableView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Row:
    """key: cluster or code. about: a number, or a picture (H, W, 3) uint8."""

    key: int
    colour: str
    name: str
    about: int | np.ndarray | None = None
    shown: bool = True


class NamedTable(QTableWidget):
    """Rows with a colour and key, an editable name, and a number or a picture.

    Emits renamed(key, text) when a name is typed, toggled(key, shown) when a box is ticked, picked(key) when a row is
    clicked.
    """

    renamed = Signal(int, str)
    toggled = Signal(int, bool)
    picked = Signal(int)

    def __init__(self, *heads: str, checkable: bool = False, picture_height: int = 0) -> None:
        super().__init__(0, len(heads))
        self.setHorizontalHeaderLabels(heads)
        self.checkable, self.picture_height = checkable, picture_height
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().hide()
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.setMinimumHeight(120)
        self._keys: list[int] = []
        self.cellChanged.connect(self._changed)
        self.cellClicked.connect(lambda row, _: self.picked.emit(self._keys[row]))

    def fill(self, rows: Iterable[Row]) -> None:
        """Show these rows; the selection is kept by key."""
        before, rows = self.key, list(rows)
        self.blockSignals(True)
        self.setRowCount(len(rows))
        self._keys = [row.key for row in rows]
        for i, row in enumerate(rows):
            self._fill_row(i, row)
        self.blockSignals(False)
        self.select(before)

    def _fill_row(self, i: int, row: Row) -> None:
        fixed = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        key = QTableWidgetItem(str(row.key))
        key.setData(Qt.ItemDataRole.DecorationRole, QColor(row.colour))
        key.setFlags(fixed | Qt.ItemFlag.ItemIsUserCheckable if self.checkable else fixed)
        if self.checkable:
            key.setCheckState(Qt.CheckState.Checked if row.shown else Qt.CheckState.Unchecked)
        about = QTableWidgetItem("" if row.about is None or isinstance(row.about, np.ndarray) else str(row.about))
        about.setFlags(fixed)
        if isinstance(row.about, np.ndarray):
            picture = _pixmap(row.about).scaledToHeight(self.picture_height, Qt.TransformationMode.SmoothTransformation)
            about.setData(Qt.ItemDataRole.DecorationRole, picture)
            about.setSizeHint(QSize(picture.width() + 6, picture.height() + 4))
            self.setRowHeight(i, picture.height() + 4)
        for column, item in enumerate((key, QTableWidgetItem(row.name), about)):
            self.setItem(i, column, item)

    @property
    def key(self) -> int | None:
        """The selected row's key."""
        row = self.currentRow()
        return self._keys[row] if 0 <= row < len(self._keys) else None

    def select(self, key: int | None) -> None:
        """Select the row with this key, if any."""
        if key in self._keys:
            self.setCurrentCell(self._keys.index(key), 1)

    def _changed(self, row: int, column: int) -> None:
        item = self.item(row, column)
        if item is not None and column == 1:
            self.renamed.emit(self._keys[row], item.text())
        elif item is not None and column == 0 and self.checkable:
            self.toggled.emit(self._keys[row], item.checkState() == Qt.CheckState.Checked)


def _pixmap(picture: np.ndarray) -> QPixmap:
    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture)
    return QPixmap.fromImage(QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy())


class ObjectTable(QTableView):
    """One row per object, sortable by any column. Emits picked(row of the data frame) when one is clicked."""

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._sorted = QSortFilterProxyModel()
        self._sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.verticalHeader().hide()
        self.setMinimumHeight(120)
        self.clicked.connect(lambda index: self.picked.emit(self._sorted.mapToSource(index).row()))

    def fill(self, table: pandas.DataFrame) -> None:
        """Show a table of `sccs objects`, without boxes and positions."""
        self._frame = _Frame(table[[name for name in map(str, table) if not name.startswith(("box_", "centroid_"))]])
        self._sorted.setSourceModel(self._frame)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.resizeColumnsToContents()

    def rows(self) -> list[int]:
        """The selected rows of the data frame."""
        return sorted(self._sorted.mapToSource(index).row() for index in self.selectionModel().selectedRows())


class _Frame(QAbstractTableModel):
    def __init__(self, table: pandas.DataFrame):
        super().__init__()
        self.columns = [table[name].tolist() for name in table]
        self.names, self.count = list(table), len(table)

    def rowCount(self, parent: Any = QModelIndex()) -> int:  # Qt's
        return self.count

    def columnCount(self, parent: Any = QModelIndex()) -> int:
        return len(self.names)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value = self.columns[index.column()][index.row()]
        if role == Qt.ItemDataRole.UserRole:
            return value
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{value:.4g}" if isinstance(value, float) else str(value)
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        return self.names[section] if role == Qt.ItemDataRole.DisplayRole else None
