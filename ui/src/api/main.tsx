import { mount } from '../shell/mount';
import { ApiPage } from './ApiPage';

mount(<ApiPage />);
