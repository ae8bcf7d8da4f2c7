import { expect, test } from 'vitest'
import { capacityOf } from '../../../src/upkeep/capacity.ts'

const mebibyte = 1024 * 1024
const stats = ['STAT limit_maxbytes 4194304', 'STAT evictions 7']

test('while memory is left for the slab classes, what is used of all of it counts', () => {
  const slabs = ['STAT 12:chunk_size 1024', 'STAT 12:used_chunks 1024', 'STAT 12:free_chunks 0']
  const capacity = capacityOf(stats, [...slabs, `STAT total_malloced ${mebibyte}`])
  expect(capacity).toEqual({ limitBytes: 4 * mebibyte, usedBytes: mebibyte, share: 0.25, evictions: 7 })
})

test('once all memory is given to slab classes, the fullest one counts: memcached evicts from it, whatever the others have', () => {
  const slabs = [
    'STAT 1:chunk_size 96',
    'STAT 1:used_chunks 100',
    'STAT 1:free_chunks 0',
    'STAT 12:chunk_size 1024',
    'STAT 12:used_chunks 10',
    'STAT 12:free_chunks 3000',
    `STAT total_malloced ${4 * mebibyte}`,
  ]
  expect(capacityOf(stats, slabs).share).toBe(1)
})

test('a memcached that holds nothing is empty', () => {
  expect(capacityOf(['STAT limit_maxbytes 4194304'], ['STAT active_slabs 0']).share).toBe(0)
})
