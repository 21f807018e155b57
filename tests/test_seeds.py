from podium.training.seeds import derive


def test_seed_of_the_same_parts_is_the_same_on_every_machine() -> None:
    assert derive(0, "trial", 7) == 2_019_121_432  # the first 31 bits of sha256sum


def test_seeds_of_different_parts_differ_and_fit_every_generator() -> None:
    seeds = [derive(study, what, number) for study in range(4) for what in ("trial", "order") for number in range(250)]

    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


def test_seed_of_parts_that_join_to_the_same_text_differs() -> None:
    assert derive("ab", "c") != derive("a", "bc")
