"""`llm4rec experiment`: sweeps that answer one question with a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...configuration.recipe import Recipe
from .console import Console, JsonOption, quiet_libraries

NAME = "experiment"
app = typer.Typer(name=NAME, help="Sweeps that answer one question with a table and a plot.", no_args_is_help=True)


ModelArgument = Annotated[str, typer.Argument(help="Model folder or Hub id; it is not changed.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder for tables, plots and trained models.")]
PartOption = Annotated[
    str, typer.Option("--part", help="Events to judge on: validation, to choose by, or test, to report.")
]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="Recipe of the models: a name or a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="`section.field=value` of the recipe; repeatable.")
]


@app.command("retrieval-sweep")
def retrieval_sweep_command(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(help="Prepared data set the model was trained on.")],
    output: OutputOption,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", min=1, help="Retrieved items per source; repeatable. Default: 3 5 10 20."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="`retrieval.field=value` of the model's recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many retrieved items to listen to: accuracy and precision@K on held-out validation events."""
    console = _console(output, as_json)
    from ..experiments.retrieval_sweep import METRIC, retrieval_sweep

    result = retrieval_sweep(
        model,
        data,
        output,
        k or (3, 5, 10, 20),
        overrides=overrides or (),
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    console.table(
        ["K", "NDCG@10", "unfiltered", "precision@K", "hit share@K", "adapter"],
        [
            [
                row["k"],
                row[METRIC],
                row["unfiltered/ndcg@10"],
                row["all/precision@K"],
                row["all/hit_share@K"],
                row["variant"],
            ]
            for row in result["rows"]
        ],
    )
    console.say(f"Best K: {result['best']['k']}. Wrote {output}/retrieval-sweep.csv, .json, .png and .svg.")
    console.result(result)


@app.command("popularity-sweep")
def popularity_sweep_command(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(help="Prepared data set the model was trained on.")],
    output: OutputOption,
    strengths: Annotated[
        list[float] | None,
        typer.Option("--strength", help="γ′; repeatable. Default: nine steps of 0.1 down from the γ of training."),
    ] = None,
    part: PartOption = "validation",
    as_json: JsonOption = False,
) -> None:
    """What accuracy costs popularity: lists along γ′, the weight of popularity in serving. Nothing is trained."""
    console = _console(output, as_json)
    from ..experiments.popularity_sweep import popularity_sweep

    result = popularity_sweep(
        model, data, output, strengths, part=part, say=console.say, progress=console.shows_progress
    )
    console.say()
    console.table(
        ["γ′", "NDCG@10", "debiased", "popularity lift", "novelty", "coverage"],
        [[row["strength"], *(row[f"filtered/{name}@10"] for name in _POPULARITY_COLUMNS)] for row in result["rows"]],
    )
    console.say(
        f"Least popular lists within {result['tolerance']:.0%} of the best NDCG@10: γ′ = "
        f"{result['least_popular']['strength']:g}. Wrote {output}/popularity-sweep.csv, .json, .png and .svg."
    )
    console.result(result)


@app.command("fairness-sweep")
def fairness_sweep_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set whose users have a sensitive attribute.")],
    output: OutputOption,
    strengths: Annotated[
        list[float] | None, typer.Option("--strength", min=0, help="λ; repeatable. Default: 0 0.1 0.5 1.")
    ] = None,
    attribute: Annotated[str | None, typer.Option(help="User column whose groups are compared.")] = None,
    recipe: RecipeOption = "quickstart",
    overrides: SetOption = None,
    part: PartOption = "validation",
    as_json: JsonOption = False,
) -> None:
    """What accuracy parity between groups costs: a model for every weight λ of the adversary."""
    console = _console(output, as_json)
    from ..experiments.fairness_sweep import fairness_sweep

    result = fairness_sweep(
        data,
        Recipe.load(recipe, overrides),
        output,
        strengths or (0.0, 0.1, 0.5, 1.0),
        attribute=attribute,
        part=part,
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    console.table(
        ["λ", "NDCG@10", "parity gap", "NDCG gap", "probe AUC"],
        [
            [
                row["strength"],
                row["filtered/ndcg@10"],
                row.get("filtered/parity_gap@10", float("nan")),
                row["filtered/ndcg_gap@10"],
                row["probe/auc"],
            ]
            for row in result["rows"]
        ],
    )
    console.say(f"Wrote {output}/fairness-sweep.csv, .json, .png and .svg.")
    console.result(result)


@app.command("propensity-sensitivity")
def propensity_sensitivity_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    output: OutputOption,
    propensities: Annotated[
        list[str] | None,
        typer.Option("--propensity", help="Repeatable. Default: popularity logistic factorisation."),
    ] = None,
    clips: Annotated[
        list[float] | None,
        typer.Option("--clip", min=0, help="Largest weight; 0: no limit; repeatable. Default: 3 10 0."),
    ] = None,
    recipe: RecipeOption = "quickstart",
    overrides: SetOption = None,
    part: PartOption = "validation",
    as_json: JsonOption = False,
) -> None:
    """How much results depend on the propensity model and the clip: a model for every combination."""
    console = _console(output, as_json)
    from ..experiments.propensity_sensitivity import propensity_sensitivity

    result = propensity_sensitivity(
        data,
        Recipe.load(recipe, overrides),
        output,
        propensities or ("popularity", "logistic", "factorisation"),
        [clip or None for clip in clips or (3.0, 10.0, 0.0)],
        part=part,
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    console.table(
        ["variant", "effective share", "largest weight", "NDCG@10", "debiased", "popularity lift"],
        [
            [
                row["variant"],
                row["effective_share"],
                row["largest_weight"],
                *(row[f"filtered/{name}@10"] for name in ("ndcg", "debiased_ndcg", "popularity_lift")),
            ]
            for row in result["rows"]
        ],
    )
    console.say(f"Wrote {output}/propensity-sensitivity.csv, .json, .png and .svg.")
    console.result(result)


@app.command("new-items-sweep")
def new_items_sweep_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    output: OutputOption,
    bonuses: Annotated[
        list[float] | None, typer.Option("--bonus", help="new_item_bonus; repeatable. Default: nine from -1 to 2.")
    ] = None,
    withheld: Annotated[float, typer.Option(help="Share of the items that the model is not shown.")] = 0.05,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the other items' NDCG@10 that the bonus may cost.")
    ] = 0.05,
    recipe: RecipeOption = "quickstart",
    overrides: SetOption = None,
    part: PartOption = "validation",
    as_json: JsonOption = False,
) -> None:
    """How far to push new items: a model that was not shown some items, for every bonus on their scores."""
    console = _console(output, as_json)
    from ..experiments.new_items_sweep import BONUSES, new_items_sweep

    result = new_items_sweep(
        data,
        Recipe.load(recipe, overrides),
        output,
        bonuses or BONUSES,
        withheld=withheld,
        tolerance=tolerance,
        part=part,
        say=console.say,
        progress=console.shows_progress,
    )
    console.say()
    names = ["new/ndcg@10", "new/hr@10", "new/exposure@10", "known/ndcg@10", "known/hr@10"]
    console.table(["bonus", *names], [[row["bonus"], *(row[name] for name in names)] for row in result["rows"]])
    console.say(
        f"Best for new items at no more than {tolerance:.0%} of the others' NDCG@10: model.new_item_bonus="
        f"{result['chosen']['bonus']:g}. Wrote {output}/new-items-sweep.csv, .json, .png and .svg."
    )
    console.result(result)


_POPULARITY_COLUMNS = ("ndcg", "debiased_ndcg", "popularity_lift", "novelty", "coverage")


@app.command("online")
def online_command(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    output: OutputOption,
    recipe: RecipeOption = "movielens",
    overrides: SetOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="frozen, finetune, ewc, proximal, replay, online or retrain; repeatable. Default: all but retrain."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--learning", "-l", help="`[method.]field=value` of the methods' settings; repeatable."),
    ] = None,
    order: Annotated[
        str, typer.Option(help="time: the last events by time; user: the last of every user, in turns.")
    ] = "time",
    share: Annotated[float, typer.Option(help="Of the events that come as a stream.")] = 0.2,
    blocks: Annotated[int, typer.Option(min=1, help="Parts of the stream.")] = 5,
    asked: Annotated[
        float, typer.Option(help="Share of the events that are asked for before they are learned.")
    ] = 1.0,
    before: Annotated[
        float | None, typer.Option(help="Choose settings on this share of what comes before the stream.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Learning from a stream: prequential accuracy, forgetting, and the methods between them."""
    console = _console(output, as_json)
    from ..data.prepared import PreparedData
    from ..experiments.online_learning import methods_named, online_experiment

    if order not in ("time", "user"):
        raise typer.BadParameter(f"--order {order!r}: expected time or user.")
    result = online_experiment(
        PreparedData.load(data),
        Recipe.load(recipe, overrides or []),
        output,
        methods_named(method or [], settings or []),
        order=order,
        share=share,
        blocks=blocks,
        asked=asked,
        before=before,
        say=console.say,
        progress=console.shows_progress,
    )
    names = ["prequential/ndcg@10", "learning_average", "retained_average", "harmonic_mean", "forgetting"]
    console.table(["method", *names], [[row["method"], *(row[name] for name in names)] for row in result["rows"]])
    console.say(f"Written to {output}.")
    console.result(result)


def _console(output: Path, as_json: bool) -> Console:
    if output.is_file():
        raise NotADirectoryError(f"{output} is a file, expected the name of a folder.")
    console = Console(as_json)
    quiet_libraries()
    return console
