<?php
// PHP's sessions in a node: a user stays logged in whichever node, web server or data centre answers the next request.
// Debian: php-cli (or php-fpm) and php-memcached. In production these lines stand in php.ini.
$server = getenv('MEMCACHED') ?: '127.0.0.1:11211';
ini_set('session.save_handler', 'memcached');
ini_set('session.save_path', $server);
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
// The lock of a session is an `add`, which the whole cluster decides once.
ini_set('memcached.sess_locking', '1');
ini_set('memcached.sess_lock_wait_min', '20');
ini_set('memcached.sess_lock_wait_max', '200');

session_id($argv[1] ?? 'example-session');
session_start();
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
echo "visits: {$_SESSION['visits']}\n";
session_write_close();
