// Makes middleware: of what it does with opened exports, or of native filters.

import type { Layer, Middleware, MiddlewareDefinition } from "../plugins/script/layer.js";

/** A copy of the plugin's definition with the layers in front of it. */
function inFrontOf<Front extends object>(plugin: Front, layers: Middleware): Front {
  const { middleware: others = [] } = plugin as { middleware?: readonly Middleware[] };
  const middleware = { value: [layers, ...others], enumerable: true };
  const properties = { ...Object.getOwnPropertyDescriptors(plugin), middleware };
  return Object.create(Object.getPrototypeOf(plugin), properties) as Front;
}

function middlewareOf(layers: readonly Layer[]): Middleware {
  const middleware: Middleware = Object.assign(
    <Front extends object>(plugin: Front): Front => inFrontOf(plugin, middleware),
    { layers },
  );
  return middleware;
}

/**
 * Middleware of your own.
 *
 * @example
 * const upsideDown = defineMiddleware({
 *   name: "upside-down",
 *   async open(next, info) {
 *     const disk = await next(info);
 *     return {
 *       ...disk,
 *       async read(buf, offset, request) {
 *         await disk.read(buf, disk.facts.sizeBytes - offset - buf.length, request);
 *         buf.reverse();
 *       },
 *       facts: { ...disk.facts, canWrite: false },
 *     };
 *   },
 * });
 */
export const defineMiddleware = (definition: MiddlewareDefinition): Middleware =>
  middlewareOf([definition]);

export const nativeMiddleware = (filter: Layer): Middleware => middlewareOf([filter]);

/** All of them in one: clients meet the first. */
export const composed = (...all: readonly Middleware[]): Middleware =>
  middlewareOf(all.flatMap(({ layers }) => layers));
