"""The examples know each outcome that an order may have."""

import ast

from docs.generators.examples import OUTCOME
from tests.documents import ROOT
from tests.programs import syntax_tree


def test_the_web_service_has_an_answer_for_each_outcome_of_an_order() -> None:
    program = syntax_tree(ROOT / "examples" / "fastapi_service.py")
    named = {ast.unparse(each.targets[0]): each.value for each in program.body if isinstance(each, ast.Assign)}
    answers = ast.literal_eval(named["STATUS"])
    assert set(answers) == set(OUTCOME["properties"]["status"]["enum"]) - {"held", "done"}  # those of other commands
