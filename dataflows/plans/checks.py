"""Whether all that settings say can be compiled."""

from __future__ import annotations

from dataclasses import replace

from dataflows.plans.engine import patience
from dataflows.plans.items import item_plan
from dataflows.plans.lanes import event_rules, lane_plan
from dataflows.plans.models import learner
from dataflows.settings import Settings, SettingsError
from models.online import OnlineModels, UnknownInput
from state.definition_set import DefinitionSet
from state.definitions import SegmentError
from state.expressions import ExpressionError
from state.lane import Lane
from state.offers import OfferError


def check(settings: Settings) -> None:
    """Compile everything that settings say, so that what is wrong in it is said at the start.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    event_rules(settings)
    patience(settings)
    plan, models = lane_plan(settings), learner(settings, trains=False)
    item_plan(settings)
    _check_labels(settings)
    check_definitions(settings, plan.definitions, models)


def _check_labels(settings: Settings) -> None:
    """Refuse lists of items that tell users apart by a family which there is not."""
    family, known = settings.recommend.segment, settings.families
    if family and family not in known:
        raise SettingsError(
            f"recommend.segment: must be one of the families ({', '.join(known)}), or empty to "
            f"tell nobody apart, but {family!r} came"
        )


def check_definitions(
    settings: Settings, definitions: DefinitionSet, models: OnlineModels | None
) -> None:
    """Compile definitions of segments over what the settings measure, offers and all.

    Raises:
        SettingsError: with the path of what is wrong.
    """
    plan = replace(
        lane_plan(settings), segments=definitions.segments, families=definitions.families
    )
    try:
        Lane(plan, [0], models)
    except UnknownInput as error:
        raise SettingsError(str(error)) from error
    except OfferError as error:
        raise SettingsError(str(error)) from error
    except (SegmentError, ExpressionError) as error:
        raise SettingsError(f"segments: {error}") from error
