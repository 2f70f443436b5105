/**
 * @peculiar/x509, loaded after the polyfill it needs.
 *
 * One after the other by `await`: Bun starts CommonJS modules, which both are, in the order in which their files happen to be
 * read, and its bundler moves a bare `import "reflect-metadata"` behind its neighbours.
 */
await import("reflect-metadata");
export const x509 = await import("@peculiar/x509");
