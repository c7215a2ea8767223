"""The online store takes no writes, and is read on: full, a replica after a failover, or its rules forbid them."""

from contextlib import contextmanager

from servers import HOST, free_ports, redis_server
from stand import shown

from stores.embedded import embedded_binary


@contextmanager
def configured(stand, name: str, value: str):
    with stand.valkey.admin() as admin:
        before = admin.config_get(name)[name]
        admin.config_set(name, value)
        try:
            yield
        finally:
            admin.config_set(name, before)


def test_a_store_that_is_out_of_memory(stand):
    stand.reads_on(configured(stand, "maxmemory", "1"))


def test_a_store_that_has_lost_its_replicas(stand):
    stand.reads_on(configured(stand, "min-replicas-to-write", "1"))


def test_a_store_whose_user_may_only_read(stand):
    @contextmanager
    def forbidden():
        with stand.valkey.boss() as boss:
            boss.execute_command("ACL SETUSER default -@write")
            try:
                yield
            finally:
                boss.execute_command("ACL SETUSER default +@all")

    stand.reads_on(forbidden())


def test_a_store_that_is_a_replica_after_a_failover(stand, tmp_path):
    """The second server was promoted over the first, which the address still names; then the address follows."""
    with redis_server(tmp_path, embedded_binary()) as second, stand.valkey.admin() as first:
        (port,) = free_ports(1)
        first.config_set("port", port)
        with second.client() as client:
            client.replicaof(HOST, port)
            stand.until(lambda: follows(client), seconds=20.0)

            @contextmanager
            def failed_over():
                client.replicaof("NO", "ONE")
                first.replicaof(HOST, second.port)
                stand.until(lambda: follows(first), seconds=20.0)
                yield
                stand.between.point(second.url)

            try:
                stand.reads_on(failed_over(), moves=True)
            finally:
                first.replicaof("NO", "ONE")
                stand.between.point(stand.valkey.url)


def follows(client) -> bool:
    told = client.info("replication")
    return told["role"] == "slave" and told["master_link_status"] == "up"


def test_a_store_that_forbids_one_kind_of_read_costs_that_part_alone(stand):
    user = stand.user()
    assert shown(stand.ask_well(user)) == ["annual"]
    with stand.valkey.boss() as boss:
        boss.execute_command("ACL SETUSER default -hvals")
        try:
            answer = stand.ask_well(user)
            assert (shown(answer), answer["degraded"]) == (["generic"], ["history:unread"]), "caps are closed"
            assert shown(stand.ask_well(user, "strip")) == ["poster"]
        finally:
            boss.execute_command("ACL SETUSER default +hvals")
    assert stand.is_well(user)
