#!/usr/bin/perl
# Debian: libcache-memcached-fast-perl.
use strict;
use warnings;
use Cache::Memcached::Fast;

my $cache = Cache::Memcached::Fast->new({ servers => [$ENV{MEMCACHED} || '127.0.0.1:11211'], io_timeout => 5 });
$cache->set('page', { title => 'BLACKHOLE', tags => ['a', 'b'] }, 3600);
printf "title: %s\n", $cache->get('page')->{title};
$cache->set('stock', 10);
printf "stock: %s\n", $cache->decr('stock', 3);
my $got = $cache->gets('stock');
printf "cas: %s, then %s\n", $cache->cas('stock', $got->[0], 99), $cache->cas('stock', $got->[0], 100) || 'refused';
printf "deleted: %s\n", $cache->delete('page');
