// Runs steps one by one and prints one JSON line for each; a step that hangs ends the program.
'use strict'

const STEP_DEADLINE_MS = 45_000
const BOUND_MS = 20_000

class NotSupported extends Error {}

const line = (step, ok, detail) => {
  process.stdout.write(JSON.stringify({ step, ok, detail: detail || '' }) + '\n')
}

const describe = failure => `${failure.name}: ${failure.message}`

async function step(name, run) {
  const watchdog = setTimeout(() => {
    line(name, false, `no end within ${STEP_DEADLINE_MS} ms`)
    process.exit(3)
  }, STEP_DEADLINE_MS)
  try {
    line(name, true, await run())
  } catch (failure) {
    line(name, failure instanceof NotSupported ? null : false, describe(failure))
  }
  clearTimeout(watchdog)
}

function check(condition, message) {
  if (!condition) throw new Error(message)
}

function same(what, expected, found) {
  const [wanted, got] = [JSON.stringify(expected), JSON.stringify(found)]
  check(wanted === got, `${what} is ${got}, expected ${wanted}`)
}

// Repeats `done` until it is true; `state` says after the bound what there is instead.
async function until(done, state) {
  const end = Date.now() + BOUND_MS
  while (!(await done())) {
    check(Date.now() < end, `after ${BOUND_MS} ms: ${state()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

module.exports = { NotSupported, line, step, check, same, until }
