"""Recipes: typed YAML, overrides, errors that name the nearest field."""

import pytest
from llm4rec.configuration import Recipe, recipe_names
from llm4rec.configuration.recipe import recipe_fields


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_loads_and_comes_back_from_yaml(name, tmp_path):
    recipe = Recipe.load(name)
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


def test_the_recipes_that_the_documentation_names_are_there():
    assert {"quickstart", "movielens", "amazon-beauty", "pretrained-llm-lora"} <= set(recipe_names())


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("training.learning_rate=1e-3", "training", "learning_rate", 1e-3),
        ("training.learning_rate=2", "training", "learning_rate", 2.0),
        ("training.epochs=5", "training", "epochs", 5.0),
        ("training.max_validation_users=null", "training", "max_validation_users", None),
        ("data.modalities=[title, price]", "data", "modalities", ["title", "price"]),
        ("data.modalities=[]", "data", "modalities", []),
        ("data.ratings=false", "data", "ratings", False),
        ("model.backbone=Qwen/Qwen3-0.6B", "model", "backbone", "Qwen/Qwen3-0.6B"),
        ("model.text_config.num_hidden_layers=3", "model", "text_config", {"num_hidden_layers": 3}),
        ("training.arguments.adam_beta2=0.98", "training", "arguments", {"adam_beta2": 0.98}),
    ],
)
def test_a_field_can_be_overridden_with_its_type(override, section, field, value):
    got = getattr(getattr(Recipe.load("quickstart", [override]), section), field)
    if isinstance(value, dict):
        assert value.items() <= got.items()
    else:
        assert got == value
        assert type(got) is type(value)


def test_a_nested_field_can_be_overridden():
    assert Recipe.load("quickstart", ["model.lora.rank=4"]).model.lora.rank == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rat=1", r"'training.learning_rat'; did you mean 'training.learning_rate'"),
        ("trainning.epochs=1", r"did you mean 'training.epochs'"),
        ("epochs=1", r"did you mean"),
        ("training.epochs", r"not of the form section.field=value"),
        ("training.epochs=many", r"training.epochs is 'many' \(str\), expected float"),
        ("training.batch_size=1.5", r"training.batch_size is 1.5 \(float\), expected int"),
        ("training.batch_size=true", r"training.batch_size is True \(bool\), expected int"),
        ("data.split=random", r"data.split is 'random', expected one of 'leave_one_out', 'global_time'"),
        ("data.modalities=title", r"data.modalities is 'title'"),
        ("data.max_history=0", r"data.max_history is 0, expected at least 1"),
        ("data.min_events=2", r"data.min_events is 2, expected at least 3"),
        ("training.learning_rate=0", r"training.learning_rate is 0.0, expected more than 0"),
        ("model.fusion_dropout=1", r"model.fusion_dropout is 1.0, expected at least 0 and less than 1"),
        ("model.lora.rank=-1", r"model.lora.rank is -1, expected at least 0"),
        ("model.lora=3", r"did you mean 'model.lora.rank'"),
        ("training=3", r"did you mean"),
    ],
)
def test_a_wrong_override_says_what_was_expected(override, message):
    with pytest.raises(ValueError, match=message):
        Recipe.load("quickstart", [override])


def test_an_unknown_key_in_a_file_names_the_nearest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {lerning_rate: 0.1}\n")
    with pytest.raises(ValueError, match=r"mine.yaml.training has the unknown key 'lerning_rate'.*'learning_rate'"):
        Recipe.load(path)
    path.write_text("trainig: {}\n")
    with pytest.raises(ValueError, match=r"mine.yaml has the unknown key 'trainig'; did you mean 'training'"):
        Recipe.load(path)


@pytest.mark.parametrize("text", ["training: [", "- a\n- b\n", "training: 5\n"])
def test_a_file_that_is_no_recipe_is_an_error(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml"):
        Recipe.load(path)


def test_an_empty_file_is_the_default_recipe(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert Recipe.load(tmp_path / "empty.yaml") == Recipe()


def test_an_unknown_recipe_lists_the_built_in_ones():
    with pytest.raises(FileNotFoundError, match=r"'movielense' not found. Built in are .*movielens"):
        Recipe.load("movielense")


def test_a_yaml_file_cannot_run_code(tmp_path):
    (tmp_path / "evil.yaml").write_text("training: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        Recipe.load(tmp_path / "evil.yaml")


def test_every_field_has_a_line_of_help():
    listed = recipe_fields()
    assert len(listed) == len({name for name, *_ in listed}) > 30
    assert all(text and "\n" not in text for *_, text in listed)
