"""Where the ids of decisions come from."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

from serving.deciding.ids import AT_ONCE, RandomIds


def test_ids_are_32_hexadecimal_digits_and_never_the_same():
    ids = [RandomIds() for _ in range(2)]
    given = [one() for _ in range(AT_ONCE * 5) for one in ids]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in given)
    assert len({*given}) == len(given)


def test_threads_that_share_a_source_get_ids_of_their_own():
    fresh = RandomIds()
    with ThreadPoolExecutor(4) as pool:
        given = [one for many in pool.map(lambda _: [fresh() for _ in range(5_000)], range(8)) for one in many]
    assert len({*given}) == len(given)


def test_a_forked_process_gets_other_ids_than_its_parent():
    fresh = RandomIds()
    fresh()
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ours, "".join(fresh() for _ in range(AT_ONCE)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(theirs, 65_536).decode()
    os.close(theirs)
    os.close(ours)
    in_child = {told[at : at + 32] for at in range(0, len(told), 32)}
    assert len(in_child) == AT_ONCE
    assert in_child.isdisjoint(fresh() for _ in range(AT_ONCE))
