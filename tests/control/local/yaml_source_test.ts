import assert from "node:assert/strict";
import { test } from "node:test";
import { readYamlDocuments, type YamlDocument } from "../../../src/control/local/yaml_source.ts";

function read(text: string): readonly YamlDocument[] {
  const result = readYamlDocuments(text);
  assert.ok(result.ok, JSON.stringify(result));
  return result.documents;
}

function problems(text: string): string[] {
  const result = readYamlDocuments(text);
  return result.ok ? [] : result.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
}

test("yaml_source: each document knows its places in the whole text", () => {
  const [first, second, third] = read("a: 1\n---\nb:\n  - c: x\n---\n- 1\n- 2\n");
  assert.deepEqual([first!.value, second!.value, third!.value], [{ a: 1 }, { b: [{ c: "x" }] }, [1, 2]]);
  assert.deepEqual(first!.at(["a"], "m"), { line: 1, column: 1, message: "m" });
  assert.deepEqual(second!.at(["b", 0, "c"], "m"), { line: 4, column: 5, message: "m" });
  assert.deepEqual(third!.at([1], "m"), { line: 7, column: 3, message: "m" });
});

test("yaml_source: a part that is not there stands where its nearest parent does", () => {
  const [, second] = read("a: 1\n---\nb:\n  c: {}\n");
  assert.deepEqual(second!.at(["b", "c", "d", 3], "m"), { line: 4, column: 3, message: "m" });
  assert.deepEqual(second!.at([], "m"), { line: 3, column: 1, message: "m" });
});

test("yaml_source: empty documents and comments are no documents", () => {
  for (const text of ["", "\n", "# only a comment\n", "---\n---\n# c\n...\n", "null\n---\n~\n"]) {
    assert.deepEqual(read(text), [], JSON.stringify(text));
  }
  const documents = read("---\n# c\n---\na: 1\n---\n---\nb: 2\n---\n");
  assert.deepEqual(documents.map(({ value }) => value), [{ a: 1 }, { b: 2 }]);
  assert.deepEqual(documents[1]!.at(["b"], "m").line, 7);
});

test("yaml_source: aliases stand where their anchor does, and end with their document", () => {
  const [first] = read("a: &x { b: 1 }\nc: *x\n");
  assert.deepEqual(first!.value, { a: { b: 1 }, c: { b: 1 } });
  assert.deepEqual(first!.at(["c", "b"], "m"), { line: 1, column: 9, message: "m" });
  assert.deepEqual(problems("a: &x 1\n---\nb: *x\n"), [
    "3:1: Unresolved alias (the anchor must be set before the alias): x",
  ]);
});

test("yaml_source: the syntax errors of all documents are told", () => {
  const told = problems("a: [1\n---\nok: 1\n---\nb: {\n");
  assert.equal(told.length, 2);
  assert.match(told[0]!, /^2:1: Flow sequence/);
  assert.match(told[1]!, /^6:1: Flow map/);
});

/** Nine in the ninth power is more than anybody has memory for. */
const EXPLODING = [..."bcdefghi"].reduce(
  (text, name, index) => `${text}${name}: &${name} [${Array(9).fill(`*${"abcdefgh"[index]}`).join(", ")}]\n`,
  "a: &a [x, x, x, x, x, x, x, x, x]\n",
);

test("yaml_source: aliases that explode are refused, in whichever document", () => {
  assert.deepEqual(problems(EXPLODING), ["1:1: Excessive alias count indicates a resource exhaustion attack"]);
  assert.deepEqual(problems(`x: 1\n---\n${EXPLODING}`), [
    "3:1: Excessive alias count indicates a resource exhaustion attack",
  ]);
});

test("yaml_source: the limit of aliases is each document's own", () => {
  const many = `a: &a 1\nb: [${Array(900).fill("*a").join(", ")}]\n`;
  assert.equal(read(`${many}---\n${many}---\n${many}`).length, 3);
});

test("yaml_source: a text of more characters than a mesh needs is refused unread", () => {
  assert.deepEqual(problems(" ".repeat(64 * 1024 * 1024 + 1)), ["1:1: the file has more than 67108864 characters"]);
});
