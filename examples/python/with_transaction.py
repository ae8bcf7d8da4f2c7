"""Cache writes that commit or roll back with the application's own rows. Needs the mariadb command, and an account with EXECUTE.

A reader of the cache never sees a price that the database does not have: no window between the commit and the cache, no cache write that
outlives a rollback.
"""

import os
import subprocess

from pymemcache.client.base import Client

host, port = os.environ.get("MEMCACHED", "127.0.0.1:11211").split(":")
cache = Client((host, int(port)), timeout=5)


def sql(statements: str) -> str:
    """One connection, one transaction: what a database driver does."""
    command = ["mariadb", *os.environ["MARIADB_OPTIONS"].split(), "--batch", "--skip-column-names"]
    return subprocess.run(command, input=statements, text=True, check=True, capture_output=True).stdout


sql("""
    CREATE DATABASE IF NOT EXISTS shop;
    CREATE TABLE IF NOT EXISTS shop.products (id INT PRIMARY KEY, price INT) ENGINE = InnoDB;
    REPLACE INTO shop.products VALUES (7, 100);
""")

change = """
    START TRANSACTION;
    UPDATE shop.products SET price = {price} WHERE id = 7;
    CALL memcached.set_key(memcached.ns('default'), 'product:7', '{{"price": {price}}}', 0);
    {end};
    -- A mark behind it, in the same log: once it is there, all before it has been applied.
    CALL memcached.set_key(memcached.ns('default'), 'mark', '{mark}', 60);
"""


def after(mark: str):
    while cache.get("mark") != mark.encode():
        pass
    return cache.get("product:7")


sql(change.format(price=120, end="ROLLBACK", mark="1"))
print("rolled back:", after("1"))
sql(change.format(price=130, end="COMMIT", mark="2"))
print("committed:", after("2").decode(), "database:", sql("SELECT price FROM shop.products WHERE id = 7").strip())
