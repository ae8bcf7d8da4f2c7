<?php
// A value that is computed once and counted up; `cas` is good on every node.
$cache = new Memcached();
[$host, $port] = explode(':', getenv('MEMCACHED') ?: '127.0.0.1:11211');
$cache->addServer($host, (int) $port);
$cache->setOption(Memcached::OPT_BINARY_PROTOCOL, false);

$cache->set('article:1', ['title' => 'BLACKHOLE', 'words' => 120], 3600);
do {
    $got = $cache->get('article:1', null, Memcached::GET_EXTENDED);
    $article = $got['value'];
    $article['words'] += 1;
    $cache->cas($got['cas'], 'article:1', $article, 3600);
} while ($cache->getResultCode() === Memcached::RES_DATA_EXISTS);
$cache->add('reads', 0);
$cache->increment('reads');
echo "{$cache->get('article:1')['words']} words, read {$cache->get('reads')} times\n";
