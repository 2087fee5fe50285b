from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, InMemory, OnPostgres, bound
from tests.stores.conformance.conversations import Conversations
from tests.stores.conformance.sessions import SessionsConformance, SharedSessionsConformance


class TestInMemory(InMemory, SessionsConformance):
    pass


class TestInFile(InFile, SessionsConformance, SharedSessionsConformance):
    pass


@needs_postgres
class TestOnPostgres(OnPostgres, SessionsConformance, SharedSessionsConformance):
    pass


TestConversationsInMemory = bound(Conversations, "memory", share=0.25, steps=30)
TestConversationsInFile = bound(Conversations, "sqlite", share=0.06, steps=30)
TestConversationsOnPostgres = needs_postgres(bound(Conversations, "postgres", share=0.06, steps=30))
