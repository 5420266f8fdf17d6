package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// valuesOfProcess: values of a process are those from here times its number on.
const valuesOfProcess = 1_000_000

// history writes what this process does as lines; the line is defined in tests/history/src/merge.rs.
type history struct {
	file    *os.File
	process int
	lock    sync.Mutex
	last    int64
}

type fields map[string]any

func openHistory(path string, process int) (*history, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &history{file: file, process: process, last: int64(process) * valuesOfProcess}, err
}

// monotonic is CLOCK_MONOTONIC, which all processes of a machine share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// value is one that nobody sent before.
func (h *history) value() int64 {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.last++
	return h.last
}

func (h *history) line(at int64, phase, operation string, more fields) {
	all := fields{"at": at, "process": h.process, "type": phase, "f": operation}
	for name, value := range more {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	h.lock.Lock()
	defer h.lock.Unlock()
	// One write, so that a kill leaves whole lines and at most a part of the last one.
	if _, err := h.file.Write(append(text, '\n')); err != nil {
		panic(err)
	}
}

func (h *history) invoke(operation string, more fields) {
	h.line(monotonic(), "invoke", operation, more)
}
func (h *history) ok(operation string, more fields)   { h.line(monotonic(), "ok", operation, more) }
func (h *history) fail(operation string, more fields) { h.line(monotonic(), "fail", operation, more) }
func (h *history) info(operation string, more fields) { h.line(monotonic(), "info", operation, more) }

// poll is one that began at a time and gave records; one that gave none says nothing.
func (h *history) poll(began int64, isolation string, records []*kgo.Record) {
	if len(records) == 0 {
		return
	}
	found := map[string][][2]json.RawMessage{}
	for _, one := range records {
		log := logOf(one.Topic, one.Partition)
		offset := json.RawMessage(fmt.Sprint(one.Offset))
		found[log] = append(found[log], [2]json.RawMessage{offset, json.RawMessage(one.Value)})
	}
	h.line(began, "invoke", "poll", fields{"isolation": isolation})
	h.ok("poll", fields{"isolation": isolation, "records": found})
}

func logOf(topic string, partition int32) string { return fmt.Sprintf("%s-%d", topic, partition) }
