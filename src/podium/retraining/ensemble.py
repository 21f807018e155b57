"""The winner as several networks whose probabilities are averaged (B. Lakshminarayanan et al., Simple and Scalable
Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017).

The search and the confirmation train one: they compare configurations, and a configuration that is better alone is most
often better with others. Members cost the retraining and every prediction as many times as much.
"""

from podium.config.recipe import Recipe

MEMBERS, EPOCHS, BATCH_SIZE, FIRST = "model.members", "train.epochs", "train.batch_size", "train.data_fraction_epochs"


def together(recipe: Recipe, members: int) -> Recipe:
    """`recipe` for `members` networks, each of which is trained as `recipe` trains one.

    A network learns from its own part of every batch (podium.models.members), so batches are as many times as large,
    there are as many times as many epochs, and as many steps as before.
    """
    if members == 1:
        return recipe
    values = recipe.flat()
    return recipe.replace(
        {name: int(str(values[name])) * members for name in (MEMBERS, EPOCHS, BATCH_SIZE, FIRST) if name in values}
    )
