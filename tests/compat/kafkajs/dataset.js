// The seven records that every client writes once with each codec, and the check of what was read.
'use strict'

const fs = require('fs')
const { check, same } = require('./report')

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
const FIRST_TIMESTAMP = 1_700_000_000_000
const BIG_BYTES = 900_000

// Bytes that do not compress: the minimal standard generator, seed 1.
function noise(length) {
  const out = Buffer.alloc(length)
  let state = 1
  for (let i = 0; i < length; i++) {
    state = (state * 48271) % 2147483647
    out[i] = state & 0xff
  }
  return out
}

function rows() {
  const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
  const rows = [
    { key: Buffer.from('key'), value: Buffer.from('value'), headers: { h: ['1', '2'], e: '' } },
    { key: null, value: Buffer.from('no key'), headers: {} },
    { key: Buffer.from('null-value'), value: null, headers: {} },
    { key: Buffer.from('empty-value'), value: Buffer.alloc(0), headers: {} },
    { key: Buffer.from([0, 0xff, 0xfe, 0x80]), value: every, headers: { b: '\u00ff' } },
    { key: Buffer.from('text'), value: Buffer.from('compressible '.repeat(1000)), headers: {} },
    { key: Buffer.from('big'), value: noise(BIG_BYTES), headers: {} },
  ]
  return rows.map((row, i) => ({
    ...row,
    partition: 0,
    timestamp: String(FIRST_TIMESTAMP + 1000 * i),
  }))
}

function identical(a, b) {
  return a === null || b === null ? a === b : a.equals(b)
}

function plainHeaders(headers) {
  const text = value => (Array.isArray(value) ? value.map(String) : String(value))
  return Object.fromEntries(Object.entries(headers || {}).map(([key, value]) => [key, text(value)]))
}

// Compares what was read, in order, with the data set; every difference fails.
function compare(topic, found) {
  const expected = rows()
  same(`${topic}: the number of records`, expected.length, found.length)
  expected.forEach((row, i) => {
    const at = `${topic}, record ${i}: `
    same(at + 'offset', String(i), found[i].offset)
    check(identical(row.key, found[i].key), at + 'the key differs')
    check(identical(row.value, found[i].value), at + 'the value differs')
    same(at + 'headers', row.headers, plainHeaders(found[i].headers))
    same(at + 'timestamp', row.timestamp, found[i].timestamp)
  })
}

// Key (as hex) to partition, as the Java client has it.
function partitionerFixture(partitions) {
  const entries = JSON.parse(fs.readFileSync('murmur2.json', 'utf8'))
  const chosen = entries.filter(entry => entry.partitions === partitions)
  return new Map(chosen.map(entry => [entry.key_hex, entry.partition]))
}

module.exports = { CODECS, FIRST_TIMESTAMP, rows, compare, partitionerFixture }
