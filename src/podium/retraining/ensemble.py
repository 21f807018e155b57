"""The winner as several networks whose probabilities are averaged (B. Lakshminarayanan et al., Simple and Scalable
Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).

The search and the confirmation train one: they compare configurations, and a configuration that is better alone is most
often better with others. Members cost the retraining and every prediction as many times as much.
"""

from podium.config.agreements import MULTIPLIED
from podium.config.recipe import Recipe


def together(recipe: Recipe, members: int) -> Recipe:
    """`recipe` for `members` networks, each of which sees as many images as `recipe` shows to one.

    A network learns from its own part of every batch (podium.models.members), so batches are as many times as large,
    there are as many times as many epochs, and about as many steps as before. Of a set smaller than such a batch each
    network gets smaller parts in more steps.
    """
    if members == 1:
        return recipe
    values = recipe.flat()
    return recipe.replace({name: int(str(values[name])) * members for name in MULTIPLIED if name in values})
