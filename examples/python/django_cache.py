"""Django's cache framework over a node, with pymemcache. Debian: python3-django and python3-pymemcache.

In a project the dictionary stands in settings.py; with several nodes name only this machine's, or a balancer's address: clients that
share keys among servers by a hash are not needed, since each node holds every key.
"""

import os

from django.conf import settings
from django.core.cache import cache

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": os.environ.get("MEMCACHED", "127.0.0.1:11211"),
            "TIMEOUT": 300,
        }
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)

print("added:", cache.add("lock:report", "worker-1", 30), cache.add("lock:report", "worker-2", 30))
cache.set_many({"a": 1, "b": {"deep": [1, 2, 3]}})
print("many:", sorted(cache.get_many(["a", "b", "c"]).items()))
cache.set("hits", 41)
print("hits:", cache.incr("hits"))
print("computed:", cache.get_or_set("page:/", lambda: "<h1>hello</h1>"))
print("deleted:", cache.delete("a"), cache.get("a", "gone"))

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402 (wants the settings)

session = SessionStore()
session["user"] = "golan"
session.save()
print("session:", SessionStore(session_key=session.session_key)["user"])
# Ends this namespace alone, in O(1), on every node.
cache.clear()
print("cleared:", cache.get("hits"))
