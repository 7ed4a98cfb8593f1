// A crash is a run that fails: its seed is said.
#pragma once

namespace simulation {

void report_crashes();

} // namespace simulation
