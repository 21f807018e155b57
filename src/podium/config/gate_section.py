"""The section `gate`: what `podium promote` asks of a challenger. No stage reads it.

Its parameters are those of the rules in `promotion/rules`, flat, and what all rules share.
"""

import importlib
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model, model_validator

from podium.components import FROZEN, Choice, choice
from podium.config.section import whole

RULES = importlib.import_module("podium.promotion.rules").find_rules()
"""By name, for promotion is above config; what a rule imports at its top is not."""


class _Gate(BaseModel):
    model_config = FROZEN

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """One minus the fraction of promotions that chance alone may cause."""
    metric: Annotated[Choice | None, choice("metric"), whole("metric")] = None
    """What compares challenger and champion, as search.metric; null: that one."""


def _fields() -> dict[str, Any]:
    """The parameters of every rule. Raises TypeError for a name that is declared twice."""
    found: dict[str, Any] = {}
    for rule in RULES:
        for name, field in rule.model_fields.items():
            if name in found or name in _Gate.model_fields:
                raise TypeError(f"gate.{name} is declared twice, the second time by {rule.__module__}: rename it")
            found[name] = (field.annotation, field)
    return found


_Declared: Any = create_model("_Declared", __base__=_Gate, **_fields())


class GateParams(_Declared):
    """What a challenger has to show before it becomes champion."""

    @model_validator(mode="after")
    def _rules_take_them(self) -> "GateParams":
        try:
            for rule in RULES:
                rule.of(self)
        except ValidationError as error:  # of a rule's own validator: the bounds of a field were checked already
            raise ValueError(
                "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
            ) from None
        return self


GateParams.__doc__ = f"{GateParams.__doc__} Rules, in order:" + "".join(
    f"\n- {rule.name}: {rule.help()}" for rule in RULES
)
