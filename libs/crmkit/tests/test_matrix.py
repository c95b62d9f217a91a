from crmkit.testing import matrix


def test_every_operation_has_a_reviewed_row() -> None:
    reviewed, now = matrix.TABLE.read_text().splitlines(), matrix.table().splitlines()
    missing = [row for row in now if row not in reviewed]
    gone = [row for row in reviewed if row not in now]
    assert not missing, f"review, then `make matrix`: {missing[:5]}"
    assert not gone, f"no operation any more, or another reach; `make matrix`: {gone[:5]}"
