"""The published numbers, against sums and single numbers copied from the paper a second time."""

import pytest
from tolerance import assert_close, terms

from minidl.reproduce.plan import TABLES
from minidl.reproduce.published import TABLE1, TABLE2, TABLE5

SUMS = [  # (table, N, sum of the means, sum of the deviations)
    (TABLE1, 128, 155.62, 7.49),
    (TABLE2, 4, 129.65, 5.09),
    (TABLE2, 8, 116.46, 5.83),
    (TABLE2, 16, 112.71, 3.41),
    (TABLE5, 256, 159.65, 12.22),
    (TABLE5, 512, 160.29, 9.33),
]


@pytest.mark.parametrize(("table", "size", "means", "deviations"), SUMS)
def test_each_published_row_has_the_papers_sums(table, size, means, deviations):
    assert_close(sum(mean for mean, _ in table[size].values()), means, terms(8, means))
    assert_close(sum(std for _, std in table[size].values()), deviations, terms(8, deviations))


def test_published_numbers_stand_in_their_columns():
    assert TABLE1[128]["MN K=2"] == (23.16, 1.23)
    assert TABLE1[128]["IN"] == (28.87, 2.28)
    assert TABLE2[8]["MGN"] == (26.83, 1.34)
    assert TABLE2[16]["GN"] == (27.63, 0.45)
    assert TABLE5[256]["LN"] == (26.95, 2.51)
    assert TABLE5[512]["MN K=4"] == (24.29, 1.82)


@pytest.mark.parametrize(("name", "sizes"), [("table1", [128]), ("table2", [4, 8, 16]), ("table5", [256, 512])])
def test_every_column_of_every_row_has_its_published_number(name, sizes):
    table = TABLES[name]
    assert list(table.paper) == list(table.rows) == [f"N = {size}" for size in sizes]
    assert [row["batch_size"] for row in table.rows.values()] == sizes
    for row in table.paper.values():
        assert list(row) == list(table.columns)


def test_tables_that_the_paper_does_not_have_say_so_and_have_no_published_numbers():
    ours = [table for name, table in TABLES.items() if not name.startswith("table")]
    assert len(ours) == 7
    assert all("ours, not in the paper" in table.title and not table.paper for table in ours)
