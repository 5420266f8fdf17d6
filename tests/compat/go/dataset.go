package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

const (
	firstTimestamp = 1_700_000_000_000
	bigBytes       = 900_000
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type header struct {
	key   string
	value string
}

// record is one to write, or one that was read. A nil key or value is null, an empty one is not.
// A negative partition leaves the choice to the client.
type record struct {
	topic     string
	partition int32
	key       []byte
	value     []byte
	headers   []header
	timestamp int64
	offset    int64
}

// rows are the seven records that every client writes once with each codec.
func rows(topic string) []record {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	out := []record{
		{key: []byte("key"), value: []byte("value"), headers: []header{{"h", "1"}, {"h", "2"}, {"e", ""}}},
		{value: []byte("no key")},
		{key: []byte("null-value")},
		{key: []byte("empty-value"), value: []byte{}},
		{key: []byte{0, 0xff, 0xfe, 0x80}, value: every, headers: []header{{"b", "\u00ff"}}},
		{key: []byte("text"), value: bytes.Repeat([]byte("compressible "), 1000)},
		{key: []byte("big"), value: noise(bigBytes)},
	}
	for i := range out {
		out[i].topic = topic
		out[i].timestamp = firstTimestamp + int64(i)*1000
	}
	return out
}

// noise does not compress: the minimal standard generator, seed 1.
func noise(length int) []byte {
	out := make([]byte, length)
	state := int64(1)
	for i := range out {
		state = state * 48271 % 2147483647
		out[i] = byte(state)
	}
	return out
}

// compare fails at the first difference between what was read and the data set.
func compare(topic string, found []record) error {
	expected := rows(topic)
	if len(found) != len(expected) {
		return fmt.Errorf("%s: %d records, expected %d", topic, len(found), len(expected))
	}
	for i, row := range expected {
		got := found[i]
		switch {
		case got.offset != int64(i):
			return fmt.Errorf("%s, record %d: the offset is %d", topic, i, got.offset)
		case !identical(row.key, got.key):
			return fmt.Errorf("%s, record %d: the key differs: %.60q", topic, i, got.key)
		case !identical(row.value, got.value):
			return fmt.Errorf("%s, record %d: the value differs: %.60q", topic, i, got.value)
		case !slices.Equal(row.headers, got.headers):
			return fmt.Errorf("%s, record %d: the headers are %v", topic, i, got.headers)
		case got.timestamp != row.timestamp:
			return fmt.Errorf("%s, record %d: the timestamp is %d", topic, i, got.timestamp)
		}
	}
	return nil
}

func identical(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

// partitionerFixture has the keys and where the Java client puts them.
func partitionerFixture(partitions int) (map[string]int32, error) {
	text, err := os.ReadFile("murmur2.json")
	if err != nil {
		return nil, err
	}
	var entries []struct {
		KeyHex     string `json:"key_hex"`
		Partitions int    `json:"partitions"`
		Partition  int32  `json:"partition"`
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	out := map[string]int32{}
	for _, entry := range entries {
		if entry.Partitions == partitions {
			key, err := hex.DecodeString(entry.KeyHex)
			if err != nil {
				return nil, err
			}
			out[string(key)] = entry.Partition
		}
	}
	return out, nil
}
