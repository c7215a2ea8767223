"""`segue simulate`, as a real process."""

SMALL = ("simulate", "--seeds", 2, "--users", 500, "--days", 2, "--workers", 1)


def test_policies_are_compared_and_told_as_json_and_as_a_table(terminal):
    chosen = ("--policies", "static-priority,random,ours,look_ahead", "--config", "constant")
    found = terminal.json(*SMALL, *chosen)
    assert [row["policy"] for row in found["policies"]] == ["random", "static_priority", "ours", "look_ahead"]
    assert found["intervals"]["captured_share"]["low"] < found["captured_share"] < 1
    told = terminal.segue(*SMALL, *chosen)
    assert "net value a visit, 2 seeds, 500 listeners, 2 days" in told
    assert "captured of static … look-ahead" in told
    assert max(map(len, told.splitlines())) <= 80
    assert not terminal.home.exists() or not any(terminal.home.iterdir())


def test_a_policy_or_a_config_that_does_not_exist_is_a_mistake(terminal):
    assert "There is no policy 'best'" in terminal.segue(*SMALL, "--policies", "best", expect=2)
    assert "There is no training config best" in terminal.segue(*SMALL, "--config", "best", expect=2)
