from learngate.stores import open_memory
from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, InMemory, OnPostgres, bound
from tests.stores.conformance.remembering import Remembering
from tests.stores.conformance.users import SharedUsersConformance, UsersConformance, fill
from tests.stores.support import Hashed, rows


class TestInMemory(InMemory, UsersConformance):
    pass


class TestInFile(InFile, UsersConformance, SharedUsersConformance):
    pass


@needs_postgres
class TestOnPostgres(OnPostgres, UsersConformance, SharedUsersConformance):
    pass


TestRememberingInMemory = bound(Remembering, "memory", share=0.4, steps=30)
TestRememberingInFile = bound(Remembering, "sqlite", share=0.06, steps=30)
TestRememberingOnPostgres = needs_postgres(bound(Remembering, "postgres", share=0.06, steps=30))


def test_a_user_who_is_erased_while_being_embedded_leaves_no_vector():
    class Interrupted(Hashed):
        def embed_documents(self, texts):
            memory.users.erase("ana")
            return super().embed_documents(texts)

    with open_memory("sqlite://", embedder=Interrupted()) as memory:
        fill(memory, 20)
        assert memory.users.recall("ana", "ordered item", budget=50) == []
        assert rows(memory, "embeddings") == 0
        assert memory.users.recall("ana", "ordered item", budget=50) == []
