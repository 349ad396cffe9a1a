import vue from 'eslint-plugin-vue';
import typescript from 'typescript-eslint';

const COMPUTE = ['engine', 'nn', 'weights', 'models', 'schedulers', 'pipeline', 'rewards', 'train'].map((room) => `src-main/${room}/**/*.ts`);

export default typescript.config(
  { ignores: ['node_modules/', 'out/', 'demo/', 'resources/'] },
  typescript.configs.recommended,
  vue.configs['flat/essential'],
  { files: ['**/*.vue'], languageOptions: { parserOptions: { parser: typescript.parser } } },
  {
    rules: {
      eqeqeq: 'error',
      'no-console': 'off',
      'prefer-const': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports', prefer: 'type-imports' }],
      'vue/multi-word-component-names': 'off',
    },
  },
  {
    // Same config and seed, same numbers: chance and clock come in through arguments.
    files: COMPUTE,
    rules: {
      'no-restricted-properties': ['error', { object: 'Math', property: 'random', message: 'Chance comes from a seeded generator.' }],
    },
  },
);
