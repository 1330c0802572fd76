"""Django's ORM over PyMySQL: models, relations, transactions, aggregates, its forms of upserts, migrations, inspection."""

import datetime
import decimal
import os
import sys
import types

import django
import pymysql
from django.conf import settings

from report import House, arguments, run, same

PORT, BASE = arguments()
HOUSE = House()

# The application that the models are of: relations are looked for among those of applications.
sys.modules["shop"] = types.ModuleType("shop")
sys.modules["shop"].__path__ = [os.path.dirname(os.path.abspath(__file__))]

# Django asks for mysqlclient, whose place PyMySQL takes.
pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": PORT, "USER": "app", "PASSWORD": "so secret",
                           "NAME": "shop", "CONN_MAX_AGE": 60, "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"}}},
    INSTALLED_APPS=["shop"], USE_TZ=True, TIME_ZONE="UTC", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

from django.db import IntegrityError, connection, migrations, models, transaction  # noqa: E402, after setup()
from django.db.migrations.recorder import MigrationRecorder  # noqa: E402
from django.db.migrations.state import ProjectState  # noqa: E402


class Customer(models.Model):
    id = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    created_at = models.DateTimeField()

    class Meta:
        app_label, db_table, managed = "shop", "customers", False


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=80)

    class Meta:
        app_label, db_table, managed = "shop", "countries", False


class Item(models.Model):
    pk = models.CompositePrimaryKey("customer_id", "order_id", "line")
    customer_id = models.BigIntegerField()
    order_id = models.BigIntegerField()
    line = models.IntegerField()
    product = models.CharField(max_length=80)
    quantity = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        app_label, db_table, managed = "shop", "order_items", False


class Note(models.Model):
    body = models.CharField(max_length=200, unique=True)

    class Meta:
        app_label, db_table, managed = "shop", "notes", False


class Author(models.Model):
    name = models.CharField(max_length=80)
    born = models.DateField(null=True)

    class Meta:
        app_label, db_table, managed = "shop", "dj_author", False


class Post(models.Model):
    # What is unique on all shards holds the shard's key.
    pk = models.CompositePrimaryKey("author_id", "no")
    no = models.IntegerField()
    author = models.ForeignKey(Author, models.CASCADE, related_name="posts")
    text = models.TextField()
    likes = models.IntegerField(default=0)

    class Meta:
        app_label, db_table, managed = "shop", "dj_post", False


class First(migrations.Migration):
    operations = [
        migrations.CreateModel("MadeAuthor", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=40))],
                               options={"db_table": "dj_author"}),
        migrations.CreateModel("MadePost", [("pk", models.CompositePrimaryKey("author_id", "no")), ("no", models.IntegerField()),
                                            ("text", models.TextField()), ("author", models.ForeignKey("shop.MadeAuthor", models.CASCADE))],
                               options={"db_table": "dj_post"}),
    ]


class Second(migrations.Migration):
    operations = [
        migrations.AddField("MadeAuthor", "born", models.DateField(null=True)),
        migrations.AddField("MadePost", "likes", models.IntegerField(default=0)),
        migrations.AlterField("MadeAuthor", "name", models.CharField(max_length=80)),
        migrations.AddIndex("MadePost", models.Index(fields=["likes"], name="dj_post_likes")),
        migrations.RunSQL("UPDATE dj_post SET likes = likes + 1"),
    ]


MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def customers(begin):
    found = HOUSE.apart(BASE + begin)
    for key in found:
        Customer.objects.create(id=key, name="django", email="d@example.com", country="NL", created_at=MOMENT)
    return found


def test_rows_are_found_where_they_were_written():
    a, b, c = customers(0)
    for key in (a, b, c):
        customer = Customer.objects.get(pk=key)
        same((customer.name, customer.created_at), ("django", MOMENT))
        customer.name = f"renamed {key}"
        customer.save(update_fields=["name"])
        customer.refresh_from_db()
        same(customer.name, f"renamed {key}")
    same(Customer.objects.filter(pk=a).exists(), True)
    same(Customer.objects.filter(pk=c).update(name="updated"), 1)
    same(Customer.objects.filter(pk=c).values_list("name", flat=True).first(), "updated")
    same(Customer.objects.filter(pk=b).delete()[0], 1)
    same(Customer.objects.filter(pk=b).first(), None)


def test_save_updates_or_inserts():
    a, _, c = HOUSE.apart(BASE + 50)
    for key in (a, c):
        for name in ("first", "second"):
            Customer(id=key, name=name, email="d@example.com", country="DE", created_at=MOMENT).save()
        same(Customer.objects.get(pk=key).name, "second")
        defaults = {"name": "third", "email": "", "country": "DE", "created_at": MOMENT}
        same(Customer.objects.update_or_create(id=key, defaults=defaults)[1], False)
        same(Customer.objects.get_or_create(id=key, defaults=defaults)[0].name, "third")


def test_transactions():
    a, b, _ = customers(100)
    try:
        with transaction.atomic():
            Customer.objects.filter(pk=a).update(name="lost")
            raise RuntimeError("away")
    except RuntimeError:
        pass
    with transaction.atomic():
        Customer.objects.select_for_update().get(pk=a)
        Customer.objects.filter(pk=a).update(name="kept")
        try:
            with transaction.atomic():
                Customer.objects.filter(pk=b).update(name="lost")
                Customer.objects.create(id=a, name="twice", email="", country="NL", created_at=MOMENT)
        except IntegrityError as error:
            same(error.args[0], 1062)
    same([Customer.objects.get(pk=key).name for key in (a, b)], ["kept", "django"])


def test_aggregates_and_joins_of_one_customer():
    items = Item.objects.filter(customer_id=7)
    same(items.count(), 10)
    total = items.aggregate(total=models.Sum(models.F("price") * models.F("quantity")))["total"]
    same(isinstance(total, decimal.Decimal) and total > 0, True)
    grouped = items.values("order_id").annotate(lines=models.Count("line")).order_by("order_id")
    same([row["order_id"] for row in grouped], [71, 72, 73, 74])
    same(list(items.order_by("-order_id", "line").values_list("order_id", flat=True)[:2]), [74, 74])


def test_many_rows_at_once():
    here = [key for key in range(BASE + 200, BASE + 300) if key in HOUSE.first][:20]
    Customer.objects.bulk_create(
        Customer(id=key, name=f"bulk {key}", email="", country="NL", created_at=MOMENT) for key in here)
    found = Customer.objects.in_bulk(here)
    same({key: customer.name for key, customer in found.items()}, {key: f"bulk {key}" for key in here})


def test_numbers_that_the_server_gives():
    notes = [Note.objects.create(body=f"django {number}") for number in range(3)]
    same(len({note.pk for note in notes}), 3)
    same(Note.objects.get(pk=notes[1].pk).body, "django 1")
    same([note.body for note in Note.objects.filter(body__istartswith="django").order_by("-body")], ["django 2", "django 1", "django 0"])


def test_reference_tables():
    same(Country.objects.get(pk="NL").name, "Netherlands")
    same(Country.objects.count(), 8)


def migrate():
    """Tables as two migrations leave them; none of what was there before."""
    recorder = MigrationRecorder(connection)
    with connection.cursor() as cursor:
        for tables in ("dj_post, dj_author", "django_migrations"):
            cursor.execute(f"DROP TABLE IF EXISTS {tables}")
    recorder.ensure_schema()
    state = ProjectState()
    for name, kind in (("0001", First), ("0002", Second)):
        with connection.schema_editor(atomic=False) as editor:
            state = kind(name, "shop").apply(state, editor)
        recorder.record_applied("shop", name)
    same(sorted(recorder.applied_migrations()), [("shop", "0001"), ("shop", "0002")])


def test_migrations():
    migrate()
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "dj_post")]
        same(columns, ["no", "text", "author_id", "likes"])
        constraints = connection.introspection.get_constraints(cursor, "dj_post")
        same(constraints["dj_post_likes"]["columns"], ["likes"])
        same([it["foreign_key"] for it in constraints.values() if it["foreign_key"]], [("dj_author", "id")])


def test_queries_of_several_shards():
    migrate()
    authors = [Author.objects.create(name=f"author {number}", born=datetime.date(1900 + number, 1, 1)) for number in range(8)]
    same(len({author.pk for author in authors}), 8)
    Post.objects.bulk_create(Post(author=author, no=turn, text=f"post {turn}", likes=turn) for author in authors for turn in range(4))
    same((Author.objects.count(), Post.objects.count()), (8, 32))
    told = Post.objects.aggregate(all=models.Sum("likes"), most=models.Max("likes"), mean=models.Avg("likes"))
    same(told, {"all": 48, "most": 3, "mean": decimal.Decimal("1.5")})
    same([author.name for author in Author.objects.order_by("-name")[:3]], ["author 7", "author 6", "author 5"])
    same([author.name for author in Author.objects.filter(name__istartswith="author").order_by("name")[6:]], ["author 6", "author 7"])
    counted = Author.objects.annotate(count=models.Count("posts"), likes=models.Sum("posts__likes")).order_by("pk")
    same([(author.count, author.likes) for author in counted], [(4, 6)] * 8)
    grouped = Post.objects.values("text").annotate(count=models.Count("no")).order_by("text")
    same([(row["text"], row["count"]) for row in grouped], [(f"post {turn}", 8) for turn in range(4)])
    joined = Post.objects.select_related("author").filter(likes=3, author__born__year__lt=1903).order_by("author__name")
    same([post.author.name for post in joined], ["author 0", "author 1", "author 2"])
    fetched = Author.objects.prefetch_related("posts").order_by("pk")
    same([len(author.posts.all()) for author in fetched], [4] * 8)
    same(Author.objects.filter(posts__likes__gte=2).distinct().count(), 8)
    same(Post.objects.filter(likes=0).exists(), True)
    same(Post.objects.filter(likes=3).update(likes=models.F("likes") + 10), 8)
    same(Post.objects.filter(likes=13).count(), 8)
    changed = list(Post.objects.filter(likes=13).order_by("pk"))
    for post in changed:
        post.text = "changed"
    same(Post.objects.bulk_update(changed, ["text"]), 8)
    same(Post.objects.filter(text="changed").count(), 8)
    same(sum(1 for _ in Post.objects.iterator(chunk_size=5)), 32)
    # What is deleted takes along what belongs to it.
    same(Author.objects.filter(name__in=("author 1", "author 2", "author 3")).delete()[0], 15)
    same((Author.objects.count(), Post.objects.count()), (5, 20))


def test_transactions_over_shards():
    a, b, c = customers(400)
    try:
        with transaction.atomic():
            same(Customer.objects.filter(pk__in=(a, b, c)).update(name="lost"), 3)
            raise RuntimeError("away")
    except RuntimeError:
        pass
    same([Customer.objects.get(pk=key).name for key in (a, b, c)], ["django"] * 3)
    with transaction.atomic():
        for key in (a, c):
            Customer.objects.select_for_update().get(pk=key)
            Customer.objects.filter(pk=key).update(name="kept")
        try:
            with transaction.atomic():
                Customer.objects.filter(pk=b).update(name="lost")
                Customer.objects.create(id=c, name="twice", email="", country="NL", created_at=MOMENT)
        except IntegrityError as error:
            same(error.args[0], 1062)
    same([Customer.objects.get(pk=key).name for key in (a, b, c)], ["kept", "django", "kept"])


def test_inspection():
    tables = connection.introspection.table_names()
    assert {"customers", "orders", "notes"} <= set(tables), tables
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "notes")]
        same(columns, ["id", "body"])
        same(connection.introspection.get_primary_key_column(cursor, "notes"), "id")
        cursor.execute("SELECT name FROM customers WHERE id = %s", [7])
        same(cursor.fetchone(), ("Amber Paper 7",))


run("django", sys.modules[__name__])
