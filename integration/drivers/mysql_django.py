"""Django's ORM over PyMySQL: models, relations, transactions, aggregates of one shard, its forms of upserts, inspection."""

import datetime
import decimal
import os
import sys

import django
import pymysql
from django.conf import settings

from report import House, arguments, run, same

PORT, BASE = arguments()
HOUSE = House()

# Django asks for mysqlclient, whose place PyMySQL takes.
pymysql.version_info = (2, 2, 1, "final", 0)
pymysql.install_as_MySQLdb()
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.mysql", "HOST": "127.0.0.1", "PORT": PORT, "USER": "app", "PASSWORD": "so secret",
                           "NAME": "shop", "CONN_MAX_AGE": 60, "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"}}},
    INSTALLED_APPS=[], USE_TZ=True, TIME_ZONE="UTC", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

from django.db import IntegrityError, connection, models, transaction  # noqa: E402, after setup()


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
