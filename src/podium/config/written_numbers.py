"""Text that stands where a number has to, such as 5 ms, 60%, 1,5 or "0.02": what to write instead."""

import re
from decimal import Decimal

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def remedy(rule: str, value: object) -> str:
    """What a sentence ends with where `value`, text, stands for a number and `rule` says that it must be one.

    Empty: it does not.
    """
    is_number = isinstance(value, str) and re.match(rf"{NUMBER}|[-+]?,\d", value.strip())
    if not is_number or rule.split()[-1] not in ("number", "integer"):
        return ""
    return f": {_written(str(value).strip(), is_whole=rule.split()[-1] == 'integer')}"


def _written(text: str, *, is_whole: bool) -> str:
    number = re.match(NUMBER, text)
    rest = text[number.end() :].strip() if number else text
    if not rest:
        return f"write {text} without quotes"
    if number and rest == "%":
        if is_whole:
            return "write a whole number alone; this one is no percentage"
        return f"write {Decimal(number[0]) / 100:f} for {text}"
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+", text):
        whole = text.replace(",", "")
        if is_whole or text.count(",") > 1:
            return f"write {whole}, without a comma"
        return f"write {whole} without a comma, or {text.replace(',', '.')} with a point, whichever is meant"
    if re.fullmatch(r"[-+]?\d*,\d+", text):
        return f"write {text.replace(',', '.')}, with a point"
    if (parts := re.fullmatch(r"([-+]?\d+) */ *(\d+)", text)) and int(parts[2]):
        return f"write {int(parts[1]) / int(parts[2]):g} for {text}"
    if parts := re.fullmatch(r"(\d+):(\d\d):(\d\d)", text):
        seconds = int(parts[1]) * 3600 + int(parts[2]) * 60 + int(parts[3])
        return f"write a number alone: {text} is {seconds} seconds"
    return f"write a number alone, without {rest!r}, in the unit that the parameter has"
