"""Tables of points: what spreadsheets make of them, and what is no table."""

import pytest

from registry.base import UserError
from sccs.inference.sparse import ClassNames, read_table

TABLE = 'z,y,x,class,image\n0,30,31,nucleus,"a, b"\n\n1,90,150,2,c\n'


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "\ufeff" + TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        TABLE.replace(",", ";").replace("a; b", "a, b"),
        TABLE.replace(",", "\t").replace("a\t b", "a, b"),
        TABLE.replace('"\n', '",,\n'),
        TABLE.replace(",2,", ",2.0,"),
    ],
    ids=["plain", "mark and CRLF", "CR", "semicolons", "tabs", "empty cells", "codes of pandas"],
)
def test_tables_of_any_spreadsheet(text, tmp_path):
    (tmp_path / "p.csv").write_bytes(text.encode())
    names = ClassNames({2: "rest"})
    found = read_table(tmp_path / "p.csv", names)
    assert {image: points.places.tolist() for image, points in found.items()} == {
        "a, b": [[0, 30, 31]],
        "c": [[1, 90, 150]],
    }
    assert names.names == ["nucleus", "rest"]


@pytest.mark.parametrize(
    "content, says",
    [
        (b"z,y,x,class\n0,1,1," + b"n" * 200_000, "line 2: not a valid table row (field larger"),
        (b"z,y,x,class,z\n0,1,1,a,9\n", "line 1: two columns 'z'"),
        (b"z,y,x,class,image,image\n0,1,1,a,b,c\n", "line 1: two columns 'image'"),
        (b"z,y,x,class\n0,30,5,30,a\n", "line 2: 5 values for 4 columns"),
        ("z,y,x,class\n0,1,1,Zelle-ä\n".encode("latin-1"), "line 2, byte 0xe4); save the table as CSV in UTF-8"),
        (TABLE.encode("utf-16"), "save the table as CSV in UTF-8"),
        (b"", "line 1: no column 'z'"),
    ],
)
def test_what_is_no_table(content, says, tmp_path):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "p.csv", ClassNames({}))
    assert says in str(error.value)


def test_more_classes_than_a_run_is_taught(tmp_path):
    (tmp_path / "p.csv").write_text("z,y,x,class\n" + "".join(f"0,1,{i},c{i}\n" for i in range(300)))
    with pytest.raises(
        UserError, match="line 256: 'c254' is one class too many: a run can be taught at most 254 classes"
    ):
        read_table(tmp_path / "p.csv", ClassNames({}))


@pytest.mark.parametrize("text", ["-1", "300", "1000", "1.5", "nan"])
def test_a_number_is_a_code_and_never_the_name_of_a_class(text):
    names = ClassNames({1: "nucleus"})
    with pytest.raises(UserError, match=f"p.csv: line 2: class codes are 1 to 254.*not {text}"):
        names.of_text(text, "p.csv: line 2")
    assert names.of_text("1.0", "") == 0 and names.names == ["nucleus"]
