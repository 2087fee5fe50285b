from tests.databases import needs_postgres
from tests.stores.conformance.backends import InFile, InMemory, OnPostgres, bound
from tests.stores.conformance.learned import Learned
from tests.stores.conformance.learnings import LearningsConformance, SharedLearningsConformance


class TestInMemory(InMemory, LearningsConformance):
    pass


class TestInFile(InFile, LearningsConformance, SharedLearningsConformance):
    pass


@needs_postgres
class TestOnPostgres(OnPostgres, LearningsConformance, SharedLearningsConformance):
    pass


TestLearnedInMemory = bound(Learned, "memory", share=0.2, steps=20)
TestLearnedInFile = bound(Learned, "sqlite", share=0.06, steps=20)
TestLearnedOnPostgres = needs_postgres(bound(Learned, "postgres", share=0.06, steps=20))
