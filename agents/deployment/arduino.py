"""C of ours as an Arduino library: its folder, with a sketch of a control loop and one that checks the board."""

from __future__ import annotations

from collections.abc import Mapping

from prunectl.agents.deployment.c_form import CSource
from prunectl.agents.deployment.c_texts import kind
from prunectl.agents.deployment.program import Program

#: By the format of Arduino's library specification 1.5: what the board manager shows, and needs to find the header.
_PROPERTIES = """\
name={name}
version=1.0.0
author=prunectl
maintainer=prunectl
sentence=A neural controller: {program.inputs} observations to an action.
paragraph={costs.flash:,} bytes of constants, {costs.ram:,} of stack. For boards of 32 bits.
category=Device Control
url=https://arxiv.org/abs/2504.13296
architectures=*
includes={name}.h
"""

_LOOP = """\
// {name} in a control loop. Yours to fill in: where an observation is from, where an action goes, how often.
#include <{name}.h>

static const unsigned long PERIOD = 20000; // microseconds: as long as a step was in training

static void readSensors(float observation[{upper}_OBSERVATIONS])
{{
    // in the order and the units of the task
    for (int i = 0; i < {upper}_OBSERVATIONS; i++) observation[i] = 0.0f;
}}

static void moveMotors(const {kind} action[{upper}_ACTIONS])
{{
    for (int i = 0; i < {upper}_ACTIONS; i++) {{
        Serial.print(action[i]);
        Serial.print(' ');
    }}
}}

void setup()
{{
    Serial.begin(115200);
}}

void loop()
{{
    static unsigned long next = micros();
    static float observation[{upper}_OBSERVATIONS];
    static {kind} action[{upper}_ACTIONS];
{beside}    readSensors(observation);
    const unsigned long before = micros();
    {name}_act(observation, {passed}action);
    const unsigned long took = micros() - before;
    moveMotors(action);
    Serial.print(took);
    Serial.println(" us");
    next += PERIOD;
    while ((long)(next - micros()) > 0) {{
    }}
}}
"""

_BESIDE = {
    "memory": "    static float memory[{upper}_MEMORY]; // zeros as an episode begins: clear it for the next\n",
    "mask": "    static float mask[{upper}_MASK];\n"
    "    for (int i = 0; i < {upper}_MASK; i++) mask[i] = 1.0f; // above 0 where an option is allowed\n",
}

_CHECK = """\
// Whether this board answers as the controller did where it was exported. Let it say so before anything moves.
#include <{name}.h>

#include <math.h>

{check}
void setup()
{{
    Serial.begin(115200);
}}

void loop()
{{
    double largest = 0.0;
    const int found = wrong(&largest);
    Serial.print("{name}: ");
    Serial.print(found);
    Serial.print(" wrong, largest difference ");
    Serial.println(largest, 9);
    delay(2000);
}}
"""


def library(folder: str, name: str, program: Program, source: CSource) -> dict[str, bytes]:
    """The files of a library by their paths, which begin with the folder's name; ``name`` is that of the C."""
    what = "" if program.beside is None else program.beside[0]
    said = {"name": name, "upper": name.upper(), "kind": kind(program), "program": program, "costs": source.costs}
    loop = _LOOP.format(
        **said,
        beside=_BESIDE.get(what, "").format(**said),
        passed=f"{what}, " if what else "",
    )
    texts: Mapping[str, str] = {
        "library.properties": _PROPERTIES.format(**said),
        f"src/{name}.c": source.code,
        f"src/{name}.h": source.header,
        "examples/loop/loop.ino": loop,
        "examples/check/check.ino": _CHECK.format(**said, check=source.check),
        f"extras/{name}_test.c": source.test,
    }
    return {f"{folder}/{path}": text.encode() for path, text in texts.items()}
