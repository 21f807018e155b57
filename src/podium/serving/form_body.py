"""The fields of a form (multipart/form-data) in the body of a request."""

from typing import TYPE_CHECKING

import python_multipart
from python_multipart.exceptions import FormParserError, QuerystringParseError
from python_multipart.multipart import parse_options_header

from podium.serving.request_error import RequestError, too_many_images

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

AS_IS = (b"binary", b"8bit", b"7bit")
"""Transfer encodings under which a field's bytes are what was sent."""


def form_fields(body: bytes, boundary: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """Name and content of each field: at most `most` images, and one more.

    Raises RequestError 400 for more, for encoded fields, and where the form is damaged.
    """
    fields = _Fields(most)
    try:
        parser = python_multipart.MultipartParser(boundary, fields.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, QuerystringParseError):
        fields.ended = False
    if not boundary or not fields.ended:
        raise RequestError(400, "the form is damaged: it does not end with its boundary, or has none")
    return [(name, bytes(content)) for name, content in fields.found]


class _Fields:
    """What the parser has found so far."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.found: list[tuple[bytes, bytearray | bytes]] = []
        self.ended = False
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self._name: bytes | None = None

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(memoryview(data)[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(memoryview(data)[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._content.extend(memoryview(data)[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.found) > self.most:
            raise too_many_images(self.most, "more fields")
        if self.found:
            name, content = self.found[-1]
            self.found[-1] = name, bytes(content)  # one by one: not all of them twice at the end
        self._name = None

    def _end_header(self) -> None:
        header = bytes(self._header).lower()
        if header == b"content-disposition" and self._name is None:
            self._name = parse_options_header(bytes(self._value))[1].get(b"name", b"")
        elif header == b"content-transfer-encoding" and bytes(self._value).lower() not in AS_IS:
            raise RequestError(400, "a field of the form has a Content-Transfer-Encoding: send the bytes as they are")
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        self._content = bytearray()
        self.found.append((self._name or b"", self._content))

    def _end(self) -> None:
        self.ended = True
